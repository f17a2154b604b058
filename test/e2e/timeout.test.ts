import { afterEach, expect, it } from 'vitest'
import { InfrastructureError } from '../../src/job/errors.js'
import type { Consumer } from '../../src/consumers/index.js'
import { altered, startDeployment, unanswered, until, verbOf, type Deployment } from './deployment.js'

let deployment: Deployment
afterEach(() => deployment.close())

const spec = { repository: 'acme/web', steps: [{ name: 'slow', run: 'echo kept > kept.txt; echo said; sleep 600', timeout: '5s' }] }
const timedOut = { status: 'failed', error: { kind: 'timeout', message: 'slow did not end within its timeout' }, steps: [{ exitCode: null, stdoutTail: 'said\n' }], diff: { paths: ['kept.txt'] } }

/** @param lost is called when a step was stopped, before anybody is told. */
async function begin(lost: (signal: AbortSignal | undefined) => Promise<void>): Promise<Consumer> {
  deployment = await startDeployment({ limits: [1] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  return deployment.startConsumer({
    providers: deployment.providers.map((provider) => ({
      limit: { sandboxes: 1 },
      provider: altered(provider, {
        exec: async (id, command, options) => {
          const answer = await provider.exec(id, command, options)
          if (verbOf(command) === 'stop') await lost(options.signal)
          return answer
        },
      }),
    })),
  })
}

it('a step that was stopped for its timeout has timed out, though the answer to its stop was lost', async () => {
  let losses = 0
  await begin(() => {
    if (++losses > 1) return Promise.resolve()
    return Promise.reject(new InfrastructureError({ kind: 'transient', source: 'local-a', message: 'connection reset' }))
  })
  const job = await deployment.queue.enqueue(spec)
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject(timedOut)
  expect(losses).toBeGreaterThan(0)
})

it('a step that was stopped for its timeout has timed out, though its consumer went away before it could say so', async () => {
  let stopped = false
  const first = await begin((signal) => {
    stopped = true
    return unanswered(signal)
  })
  const job = await deployment.queue.enqueue(spec)
  await until('the step to be stopped', () => stopped)
  await deployment.startConsumer()
  await first.stop()
  expect(await job.result({ timeoutMs: 150_000 })).toMatchObject(timedOut)
})
