import { afterEach, describe, expect, it } from 'vitest'
import { checkpointRetryMs } from '../../src/consumers/supervision/checkpoints.js'
import { git, startDeployment, until, type Deployment } from './deployment.js'

let deployment: Deployment | undefined
afterEach(async () => {
  await deployment?.close()
  deployment = undefined
})

it('a checkpoint that could not be saved is due again soon, then ever later, at most a period', () => {
  const away = { kind: 'transient', message: 'no answer' } as const
  expect([1, 2, 3, 6, 40].map((failures) => checkpointRetryMs({ failures, error: away }, 60_000))).toEqual([2_000, 4_000, 8_000, 60_000, 60_000])
  expect(checkpointRetryMs({ failures: 1, error: away }, 1_000)).toBe(1_000)
  // What git refuses it refuses again: at the next period the work may be another.
  expect(checkpointRetryMs({ failures: 1, error: { kind: 'invalid', message: 'no such author' } }, 60_000)).toBe(60_000)
})

describe('a checkpoint that can’t be pushed', () => {
  it('does not fail the job, is shown, and is saved long before the next period once the host is back', { timeout: 240_000 }, async () => {
    deployment = await startDeployment({ limits: [1] })
    const { storage, queue, host } = deployment
    await deployment.seed('acme/web', { 'README.md': 'hello\n' })
    await deployment.startConsumer({ settings: { reapIntervalMs: 1_000 } })
    const job = await queue.enqueue({
      repository: 'acme/web',
      steps: [
        { name: 'first', run: 'echo first > first.txt; echo at work; while [ ! -e "$HOME/go-1" ]; do sleep 0.05; done' },
        { name: 'second', run: 'echo second > second.txt; while [ ! -e "$HOME/go-2" ]; do sleep 0.05; done' },
      ],
      checkpoint: { everySeconds: 3_600 },
    })
    let begun = await job.status()
    await until('the first step', async () => {
      begun = await job.status()
      return begun.step !== null && begun.sandboxId !== null
    })
    const provider = deployment.providers.find(({ name }) => name === begun.provider)!
    const touch = (file: string) => provider.exec(begun.sandboxId!, { script: `touch "$HOME/${file}"` }, { timeoutMs: 10_000 })

    storage.setOutage({ kind: 'unavailable', of: 'git' })
    await touch('go-1')
    await until('two tries', async () => (await job.status()).checkpointProblem?.includes('2 times') ?? false)
    const shown = await job.status()
    expect(shown).toMatchObject({ state: 'running', checkpointSha: null, step: '2/2 second' })
    expect(shown.checkpointProblem).toMatch(/^not saved since \d\d:\d\d:\d\d, tried 2 times \(\w[\w-]+\): /)
    storage.setOutage(null)
    await until('a checkpoint', async () => (await job.status()).checkpointSha !== null)
    expect((await job.status()).checkpointProblem).toBeNull()

    await touch('go-2')
    const result = await job.result({ timeoutMs: 150_000 })
    expect(result).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }], diff: { paths: ['first.txt', 'second.txt'] } })
    let log = ''
    for await (const line of job.logs()) log += line.text
    expect(log).toMatch(/checkpoint not saved \([\w-]+\): .*; tried again/)

    const folder = await deployment.checkout('acme/web', result.branch!, true)
    expect(await git(folder, 'rev-list', '--count', `${result.baseSha!}..HEAD`)).toBe('1')
    const trailers = await git(folder, 'log', '-1', '--format=%(trailers:unfold)')
    const { provider: at, sandboxId: id } = result.attempts[0]!
    expect(trailers.trim().split('\n')).toEqual([`Agent-Job: ${job.jobId}`, `Agent-Provider: ${at}`, `Agent-Sandbox: ${id!}`, 'Agent-Attempt: 1'])
    // Its checkpoints go with the end; a minute later where the host took long.
    await until('its checkpoints are deleted', async () => (await host.branchHead('acme/web', { name: `checkpoint/${job.jobId}-1.1`, ephemeral: true }, { timeoutMs: 10_000 })) === null, 100_000)
  })
})
