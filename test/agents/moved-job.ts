/**
 * An agent as a job: its sandbox is killed in the middle of its third task, once a checkpoint holds what that task had made, and the job
 * goes on at the other provider.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import { secretsFromEnvironment } from '../../src/consumers/index.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import type { JobHandle } from '../../src/producers/index.js'
import type { JobResult } from '../../src/job/result.js'
import type { ModelServer } from '../servers/model/server.js'
import { git, until, type Deployment } from '../e2e/deployment.js'

export interface MovedJob {
  readonly result: JobResult
  /** What the model was asked before the sandbox was killed. */
  readonly askedBefore: number
  /** A clone of what the job pushed. */
  readonly folder: string
  readonly log: string
}

export interface Otherwise {
  readonly consumer?: Parameters<Deployment['startConsumer']>[0]
  /** What is done to the job in place of the death of its sandbox. */
  readonly interrupt?: (job: JobHandle) => Promise<void>
}

/**
 * @param secrets the values that the consumer has.
 * @param spec the agent's job; its checkpoints are made every second.
 */
export async function moveInTheMiddle(deployment: Deployment, spec: JobSpecInput, secrets: Readonly<Record<string, string>>, model: ModelServer, otherwise: Otherwise = {}): Promise<MovedJob> {
  const { queue, providers } = deployment
  await deployment.startConsumer({ ...otherwise.consumer, secrets: secretsFromEnvironment(Object.keys(secrets), secrets) })
  const job = await queue.enqueue({ ...spec, checkpoint: { ...spec.checkpoint, everySeconds: 1 } })
  let seen: string | null = null
  let before = await job.status()
  await until(
    'a checkpoint in the third task',
    async () => {
      before = await job.status()
      if (before.endedAtMs !== null) throw new Error(`the job ended before: ${JSON.stringify(await job.result())}`)
      if (before.checkpointSha === null || before.checkpointSha === seen) return false
      seen = before.checkpointSha
      // The first one may be of nothing but the base, and have no branch yet.
      const branch = `checkpoint/${job.jobId}-1.1`
      if ((await deployment.host.branchHead(spec.repository, { name: branch, ephemeral: true }, { timeoutMs: 20_000 })) === null) return false
      const clone = await deployment.checkout(spec.repository, branch, true)
      if (!existsSync(join(clone, 'three.txt'))) return false
      await expectNowhere(clone, Object.values(secrets))
      return true
    },
    400_000,
  )
  const askedBefore = model.requests.length
  if (otherwise.interrupt === undefined) await providers.find(({ name }) => name === before.provider)!.kill(before.sandboxId!, { timeoutMs: 20_000 })
  else await otherwise.interrupt(job)
  const result = await job.result({ timeoutMs: 400_000 })
  let log = ''
  for await (const line of job.logs({ follow: false })) log += line.text
  const folder = await deployment.checkout(spec.repository, result.branch ?? 'main', result.branch !== null)
  return { result, askedBefore, folder, log }
}

/** No object of the clone, commits and states included, holds any of the values. */
async function expectNowhere(clone: string, values: readonly string[]): Promise<void> {
  const { stdout } = await promisify(execFile)('git', ['-C', clone, 'cat-file', '--batch-all-objects', '--batch', '--buffer'], { encoding: 'buffer', maxBuffer: 256 * 1024 * 1024 })
  for (const value of values) expect(stdout.includes(value), 'a key in the checkpoint').toBe(false)
}

/** That the job's agent went on where it was: at another provider, in its conversation, and only the turn that was broken off was paid for again. */
export async function expectWentOn({ result, askedBefore, folder, log }: MovedJob, model: ModelServer): Promise<void> {
  expect(result, log).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'lost', error: { kind: 'sandbox-lost' } }, { outcome: 'succeeded' }] })
  expect(result.attempts[0]?.provider).not.toBe(result.attempts[1]?.provider)
  await expectSameConversation({ result, askedBefore, folder, log }, model)
}

/** That its agent went on in its conversation, and only the turn that was broken off was paid for again. */
export async function expectSameConversation({ result, askedBefore, folder }: MovedJob, model: ModelServer): Promise<void> {
  // The first two turns were answered once, and every request since then brought their results along.
  expect(model.turns().map(({ turn, answers }) => [turn, answers])).toEqual([[1, 1], [2, 1], [3, 2], [4, 1], [5, 1]])
  for (const { purpose, done } of model.requests.slice(askedBefore)) {
    if (purpose.kind === 'turn') expect(done).toEqual(expect.arrayContaining([1, 2]))
    else expect(purpose.kind).toBe('aside')
  }
  const files = await Promise.all(['one.txt', 'two.txt', 'three.txt', 'four.txt'].map((name) => readFile(join(folder, name), 'utf8')))
  expect(files).toEqual(['one\n', 'two\n', 'three\nthree\n', 'four\n'])
  expect(await git(folder, 'log', '--format=%an %s', `${result.baseSha ?? ''}..HEAD`)).toContain('Agent Add two')
}
