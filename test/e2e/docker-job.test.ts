import { expect, it } from 'vitest'
import type { Provider } from '../../src/providers/provider.js'
import { options, startDocker } from '../providers/docker-fixture.js'
import { podmanUnavailable } from '../servers/podman.js'
import { git, startDeployment, until } from './deployment.js'

const unavailable = await podmanUnavailable()

async function containers(providers: readonly Provider[]): Promise<{ provider: Provider; id: string }[]> {
  const found: { provider: Provider; id: string }[] = []
  for (const provider of providers) for await (const { id } of provider.list({}, options)) found.push({ provider, id })
  return found
}

it.skipIf(unavailable !== undefined)(
  `a job whose container is removed goes on in another one from its checkpoint${unavailable === undefined ? '' : `: ${unavailable}`}`,
  async () => {
    const fixture = await startDocker()
    const deployment = await startDeployment()
    try {
      const providers = ['docker-a', 'docker-b'].map((name) => fixture.another({ name }))
      await deployment.seed('acme/web', { 'README.md': 'hello\n' })
      await deployment.startConsumer({ providers: providers.map((provider) => ({ provider, limit: { sandboxes: 1 } })) })
      const job = await deployment.queue.enqueue({
        repository: 'acme/web',
        steps: ['cat README.md > one.txt', { name: 'long', run: 'echo under way; while [ ! -e /dev/shm/go ]; do sleep 0.1; done; cat one.txt > two.txt' }],
        push: { message: 'Write two files' },
      })
      for await (const { text } of job.logs({ follow: true })) {
        if (text.trim() === 'under way') break
      }
      const [first] = await containers(providers)
      expect(first).toBeDefined()
      await first?.provider.kill(first.id, options)
      await until('another container', async () => (await containers(providers)).length > 0, 60_000)
      // The engine lists a container before it runs, and then answers an exec with 500: whoever may ask again asks again.
      await until('the step let go', async () => {
        const [second] = await containers(providers)
        return second !== undefined && second.provider.exec(second.id, { script: ': >/dev/shm/go' }, options).then(({ exitCode }) => exitCode === 0, () => false)
      }, 300_000)
      const result = await job.result({ timeoutMs: 150_000 })
      expect(result).toMatchObject({ status: 'succeeded', error: null, attempts: [{ error: { kind: 'sandbox-lost' } }, { outcome: 'succeeded' }] })
      expect(new Set(result.attempts.map(({ provider }) => provider))).toEqual(new Set(['docker-a', 'docker-b']))
      const folder = await deployment.checkout('acme/web', `agent/${job.jobId}`, true)
      expect(await git(folder, 'ls-files')).toBe('README.md\none.txt\ntwo.txt')
      expect(await git(folder, 'show', 'HEAD:two.txt')).toBe('hello')
    } finally {
      await deployment.close()
      await fixture.close()
    }
  },
  180_000,
)
