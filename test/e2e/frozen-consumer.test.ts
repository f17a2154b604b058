import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { afterEach, expect, it } from 'vitest'
import { spanning } from '../whole.js'
import { startDeployment, until, type Deployment } from './deployment.js'

// A consumer that is frozen past its lease wakes up in the middle of what it was about to do. Another one has its job by then, and
// has ended it: nothing more may come from the one that wakes up. It freezes itself, in a call after which the act would follow. CI tries
// two such calls, `npm run test:long` all of them; that a lost fence keeps from the final push and the promotion it sees in attempts.test.ts.
let deployment: Deployment
afterEach(() => deployment.close())

/** What changes something outside: what a frozen consumer must not do any more. */
const acts = ['create', 'kill', 'extend', 'start', 'stop', 'clone', 'checkpoint', 'push-checkpoint', 'commit', 'push', 'promote', 'deleteBranch']

async function isFrozen(pid: number): Promise<boolean> {
  return /^State:\s+T/m.test(await readFile(`/proc/${pid}/status`, 'utf8'))
}

it.each(spanning<[string, { readonly call: string; readonly nth: number; readonly fails?: boolean }, string]>([
  ['before it creates a sandbox', { call: 'branchHead', nth: 1 }, 'create'],
  ['before it pushes a checkpoint', { call: 'writeAccess', nth: 1 }, 'push-checkpoint'],
  ['before it pushes the work', { call: 'writeAccess', nth: 2 }, 'push'],
  ['before it promotes', { call: 'branchHead', nth: 2 }, 'promote'],
  ['while a kill fails, before it tries again', { call: 'kill', nth: 1, fails: true }, 'kill'],
  ['while it reads a step’s output', { call: 'read', nth: 1 }, 'checkpoint'],
], 'while a kill fails, before it tries again', 'while it reads a step’s output'))('a consumer that is frozen %s does nothing more', async (_what, freezeIn, next) => {
  deployment = await startDeployment({ limits: [2] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  const calls: string[] = []
  const frozen = await deployment.startConsumerProcess({ freezeIn })
  let log = ''
  frozen.on('message', (message: { call?: string; log?: string }) => {
    if (message.call !== undefined) calls.push(message.call)
    log += message.log ?? ''
  })
  const job = await deployment.queue.enqueue({
    repository: 'acme/web',
    steps: ['echo began; sleep 1; echo x >> runs.txt', 'cat runs.txt'],
    promote: { to: 'done', strategy: 'merge' },
  })
  await until('the consumer to freeze itself', () => isFrozen(frozen.pid!))
  await deployment.startConsumer()
  const result = await job.result({ timeoutMs: 150_000 })
  expect(result).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }], steps: [{}, { stdoutTail: 'x\n' }] })
  const state = async () => ({
    done: await deployment.host.branchHead('acme/web', { name: 'done', ephemeral: false }, { timeoutMs: 10_000 }),
    branch: await deployment.host.branchHead('acme/web', { name: result.branch!, ephemeral: true }, { timeoutMs: 10_000 }),
    status: await job.status(),
  })
  const requests = () => deployment.storage.wireBytes('acme/web').requests
  const before = await state()
  const requestsBefore = requests()
  expect(before.done).toBe(result.promoted?.sha)
  const callsBefore = calls.length
  frozen.kill('SIGCONT')
  await until('it to let go of the job', () => log.includes('job let go'))
  // Once it has stopped in order, all that it did is known.
  frozen.kill('SIGTERM')
  await once(frozen, 'exit')
  expect(calls.slice(0, callsBefore)).toContain(freezeIn.call)
  expect(calls.slice(callsBefore).filter((call) => acts.includes(call)), `the act that would have followed is ${next}`).toEqual([])
  expect(requests()).toBe(requestsBefore)
  expect(await state()).toEqual(before)
})
