import { afterEach, beforeEach, expect, it } from 'vitest'
import { completionEventSchema } from '../../src/events/index.js'
import { jobResultSchema } from '../../src/job/result.js'
import { whole } from '../whole.js'
import { fromCheckout, makePlace, type Place, type Run } from './run-switchyard.js'

let place: Place
beforeEach(async () => {
  place = await makePlace()
})
afterEach(() => place.remove())

const nothing = { files: [], processes: [] }

it('runs three jobs that end as intended, tells so in JSON, and leaves nothing behind', { timeout: 300_000 }, async () => {
  // `npm run test:long` has it from source, as script/demo starts it, and another that is kept up. CI tries that start below, and keeps this one up.
  const run = whole ? place.run(['demo', '--json'], {}, fromCheckout) : place.run(['demo', '--json', '--keep'])
  if (!whole) await lookAtKept(run)
  expect(await run.ended, run.stderr()).toBe(0)
  const lines = run.stdout().trimEnd().split('\n')
  expect(lines).toHaveLength(1)
  const report = JSON.parse(lines[0] ?? '') as { jobs: unknown[]; events: unknown[]; redis: string; codeStorage: string }
  expect(Object.keys(report).sort()).toEqual(['codeStorage', 'events', 'jobs', 'redis', 'services'])

  const [change, failover, failure] = report.jobs.map((job) => jobResultSchema.parse(job))
  expect(change).toMatchObject({ status: 'succeeded', promoted: { to: 'main', result: 'fast_forward' }, diff: { paths: ['NOTE.md'] } })
  expect(failover).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'lost', error: { kind: 'sandbox-lost' } }, { outcome: 'succeeded' }] })
  expect(failover?.attempts[0]?.provider).not.toBe(failover?.attempts[1]?.provider)
  expect(failover?.steps.map((step) => step.name)).toEqual(['prepare', 'work', 'report'])
  expect(failure).toMatchObject({ status: 'failed', error: { kind: 'step-failed' }, promoted: null, attempts: [{ outcome: 'failed' }] })

  const events = report.events.map((event) => completionEventSchema.parse(event))
  expect(new Set(events.map((event) => event.subject))).toEqual(new Set([change, failover, failure].map((job) => job?.jobId)))
  // The password of the private Redis server is nobody's business.
  expect(report.redis).toMatch(/^redis:\/\/[\w.:]+$/)

  for (const line of [/failover .*running .*step 2\/3 work at local-/, /its sandbox .* was killed from outside/, /its first step ran once/, /All 3 jobs ended as intended/]) {
    expect(run.stderr()).toMatch(line)
  }
  expect(await place.left()).toEqual(nothing)
})

it.runIf(whole)('leaves nothing behind when it is stopped in the middle', async () => {
  const run = place.run(['demo'])
  await run.saw(/running .*step/)
  run.child.kill('SIGINT')
  expect(await run.ended).toBe(130)
  expect(run.stderr()).toContain('stopped; everything was taken down')
  expect(await place.left()).toEqual(nothing)
})

it('says what is missing when there is no Redis server, and leaves nothing behind', async () => {
  const { mkdir, symlink } = await import('node:fs/promises')
  const { execFileSync } = await import('node:child_process')
  const tools = `${place.folder}/tools`
  await mkdir(tools)
  for (const tool of ['sh', 'node', 'git', 'dirname', 'readlink']) {
    await symlink(execFileSync('sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).trim(), `${tools}/${tool}`)
  }
  const run = place.run(['demo'], { PATH: tools }, fromCheckout)
  expect(await run.ended).toBe(3)
  expect(run.stderr()).toMatch(/redis-server|valkey-server/)
  expect(run.stdout()).toBe('')
  expect(await place.left()).toEqual(nothing)
})

it.runIf(whole)('keeps everything up when asked to, with the board and a configuration for the other commands', { timeout: 300_000 }, async () => {
  const run = place.run(['demo', '--keep'])
  await lookAtKept(run)
  expect(await run.ended).toBe(0)
  expect(await place.left()).toEqual(nothing)
})

/** What a demo that is kept up leaves for the eye and for the other commands, until it is stopped. */
async function lookAtKept(run: Run): Promise<void> {
  await run.saw(/Ctrl-C stops everything/)
  const said = run.stdout() + run.stderr()
  const board = /Bull Board: (\S+)/.exec(said)?.[1] ?? ''
  expect((await fetch(new URL('healthz', board))).status).toBe(200)
  const config = /SWITCHYARD_CONFIG=(\S+)/.exec(said)?.[1] ?? ''
  const status = place.run(['status', '--json'], { SWITCHYARD_CONFIG: config })
  expect(await status.ended, status.stderr()).toBe(0)
  expect((JSON.parse(status.stdout()) as { state: string }[]).map((job) => job.state).sort()).toEqual(['failed', 'succeeded', 'succeeded'])
  run.child.kill('SIGTERM')
}
