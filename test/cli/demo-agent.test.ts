import { afterEach, beforeEach, expect, it } from 'vitest'
import { agentFlagsProblem } from '../../src/cli/commands/demo.js'
import { agentComplaints, agentJob, turnsReport, type Turns } from '../../src/cli/demo/agent-job.js'
import type { JobResult } from '../../src/job/result.js'
import { parseJobSpec } from '../../src/job/spec.js'
import { documentedJob } from '../agents/documented-recipes.js'
import { makePlace, type Place } from './run-switchyard.js'

let place: Place
beforeEach(async () => {
  place = await makePlace()
})
afterEach(() => place.remove())

const parts = { repository: 'demo/switchyard', first: 'local-a', session: 'b5a1d5a4-5d0f-4ab2-8a40-0a1c4ac4a6f0', bin: '/bin', modelUrl: 'http://127.0.0.1:1' }

it('runs what docs/agents.md says', () => {
  const [shown] = parseJobSpec(agentJob(parts)).steps
  const [documented] = parseJobSpec(documentedJob('claude')).steps
  expect([shown?.run, shown?.resume]).toEqual([documented?.run, documented?.resume])
  expect(agentJob(parts).checkpoint?.paths).toEqual(documentedJob('claude').checkpoint?.paths)
})

it('is as intended only when nothing but the broken turn was paid for again', () => {
  const turns = (...answers: number[]): Turns => answers.map((count, index) => ({ turn: index + 1, answers: count, inputTokens: 10, cachedTokens: 0, outputTokens: 1 }))
  const attempts = [{ outcome: 'lost', provider: 'local-a' }, { outcome: 'succeeded', provider: 'local-b' }]
  const result = { status: 'succeeded', error: null, attempts, diff: { paths: ['NOTES.md'] } } as unknown as JobResult
  expect(agentComplaints(result, turns(1, 1, 2, 1, 1))).toEqual([])
  expect(agentComplaints(result, turns(2, 2, 2, 1, 1))).toEqual(['how often its model answered each turn: 1:2 2:2 3:2 4:1 5:1 instead of 1:1 2:1 3:2 4:1 5:1'])
  expect(agentComplaints({ ...result, attempts: [result.attempts[0]!, { ...result.attempts[1]!, provider: 'local-a' }] }, turns(1, 1, 2, 1, 1))).toEqual(['it did not go to another provider'])
  expect(agentComplaints({ ...result, attempts: result.attempts.slice(1), diff: null }, turns(1, 1, 1, 1, 1))).toHaveLength(3)
  expect(turnsReport(turns(1, 1, 2))).toMatch(/turn 1: answered once \(10 tokens in, 1 out\)\n.*\n.*turn 3: answered 2 times, since its sandbox died/)
})

it('is skipped with a sentence where the agent can’t be installed, and leaves nothing behind', { timeout: 300_000 }, async () => {
  const run = place.run(['demo', '--agent', '--json'], {
    SWITCHYARD_AGENTS_CACHE: `${place.folder}/cache`,
    npm_config_cache: `${place.folder}/npm`,
    npm_config_registry: 'http://127.0.0.1:2',
    npm_config_fetch_retries: '0',
  })
  expect(await run.ended, run.stderr()).toBe(0)
  expect(run.stderr()).toMatch(/Skipped: Claude Code can’t be installed here \(@anthropic-ai\/claude-code@[\d.]+: .*\)\. The demo without --agent needs none\./)
  expect(run.stdout()).toBe('')
  expect(await place.left()).toEqual({ files: [], processes: [] })
})

it.each([[{ providers: 'e2b,modal' }, '--providers'], [{ keep: true }, '--keep'], [{ config: 'a.json' }, '--config'], [{ real: true }, '--real'], [{ real: false }, '--no-real']])(
  'refuses what it can’t do together with it: %j',
  (flags, named) => expect(agentFlagsProblem(flags)).toBe(`--agent: runs on this machine alone and ends by itself; leave out ${named}`),
)

it('is fine with --json alone', () => expect(agentFlagsProblem({ json: true })).toBeUndefined())
