import { describe, expect, it } from 'vitest'
import { EventGroups, type JobEvent, completionEvent, eventKinds } from '../../src/events/index.js'
import { eventsBetween, tellingOf } from '../../src/events/told-events.js'
import { type EventKind, hooksFor } from '../../src/job/event-kinds.js'
import type { RunRecord } from '../../src/job/run-record.js'
import { RunStore } from '../../src/store/index.js'
import { random, record, result, useRedis } from '../store/fixture.js'

const redis = useRedis()
const attempt = (provider: string, sandboxId: string | null, outcome: RunRecord['attempts'][number]['outcome'] = 'running') => ({ provider, sandboxId, startedAt: '2026-01-01T00:00:00.000Z', endedAt: null, outcome, error: null })
const step = (name: string) => ({ name, exitCode: 0, durationMs: 5, stdoutTail: '', stderrTail: '' })
const checkpoint = (sha: string, stepIndex = 1) => ({ sha, stepIndex, headSha: sha, commitsAhead: 1, branch: 'checkpoint/job-1', atMs: 1, withinStep: false, holdsPaths: false, repositoryPath: null })

describe('what a write of a record tells', () => {
  const began = record('job', { attempts: [attempt('a', 's1')] })
  const cases: [string, RunRecord, RunRecord, string[]][] = [
    ['a sandbox that is asked for: nothing', record('job'), record('job', { attempts: [attempt('a', null)] }), []],
    ['the first sandbox', record('job', { attempts: [attempt('a', null)] }), began, ['job.1.started.1']],
    ['one after others that never came to be', record('job', { attempts: [attempt('a', null, 'unavailable')] }), record('job', { attempts: [attempt('a', null, 'unavailable'), attempt('b', 's1')] }), ['job.1.started.2']],
    ['the same again: nothing', began, { ...began }, []],
    ['a sandbox that is lost: nothing yet', began, record('job', { attempts: [attempt('a', 's1', 'lost')] }), []],
    ['the next sandbox', record('job', { attempts: [attempt('a', 's1', 'lost'), attempt('b', null)] }), record('job', { attempts: [attempt('a', 's1', 'lost'), attempt('b', 's2')] }), ['job.1.moved.2']],
    ['the first sandbox of a restart', record('job', { attempts: [attempt('a', 's1', 'failed')] }), record('job', { attempts: [attempt('a', 's1', 'failed'), attempt('a', 's2')], restart: { count: 1, atMs: 1, attemptsBefore: 1 } }), ['job.1.started.2']],
    ['a step', began, { ...began, steps: [step('build')] }, ['job.1.step.1.0']],
    ['steps that are undone by a move: nothing', { ...began, steps: [step('build'), step('test')] }, { ...began, steps: [step('build')] }, []],
    ['a checkpoint', began, { ...began, checkpoint: checkpoint('c1') }, ['job.1.checkpoint.1.c1']],
    ['one that found nothing new: nothing', { ...began, checkpoint: checkpoint('c1') }, { ...began, checkpoint: { ...checkpoint('c1'), atMs: 9 } }, []],
    ['one without a branch: nothing', began, { ...began, checkpoint: { ...checkpoint('c1'), branch: null } }, []],
    ['a promotion', began, { ...began, promoted: { to: 'main', sha: 'c1', result: 'fast_forward' } }, ['job.1.promoted']],
    ['all at once', record('job'), { ...began, steps: [step('build')], checkpoint: checkpoint('c1'), promoted: { to: 'main', sha: 'c1', result: 'no_op' } }, ['job.1.started.1', 'job.1.step.1.0', 'job.1.checkpoint.1.c1', 'job.1.promoted']],
  ]
  it.each(cases)('%s', (_what, before, after, ids) => {
    expect(eventsBetween(before, after).map(({ id }) => id)).toEqual(ids)
  })
})

/** What is wrong with the order in which a run was told of; each event once. */
function orderProblem(events: readonly JobEvent[], restarts: number): string | null {
  let started = 0
  for (const [index, { type }] of events.entries()) {
    const kind = type.replace('dev.switchyard.job.', '')
    if (kind === 'started') started += 1
    else if (kind === 'succeeded' || kind === 'failed' || kind === 'cancelled') return index === events.length - 1 ? null : `told on after its end: ${events.map(({ id }) => id).join(' ')}`
    else if (started === 0) return `${kind} before it started`
    if (started > restarts + 1) return `started ${started} times with ${restarts} restarts: ${events.map(({ id }) => id).join(" ")}`
  }
  return 'no end'
}

describe('a run that is told of', () => {
  const everywhere = eventKinds.filter((kind) => kind !== 'completed')
  const telling = tellingOf(record('job'), { source: '/test', everywhere, now: () => 1 })

  async function toldOf(jobId: string, types: readonly EventKind[] = eventKinds): Promise<JobEvent[]> {
    const client = redis.connect()
    const groups = new EventGroups(redis.keys, (work) => work(client))
    const all = (await groups.read({ types, limit: 1_000 })).flatMap(({ event }) => (event?.subject === jobId ? [event] : []))
    return all.filter(({ id }, index) => all.findIndex((each) => each.id === id) === index)
  }

  it('is told in an order that can be, whole, whatever is taken over, repeated or lost with a primary', async () => {
    const client = redis.connect()
    for (let seed = 1; seed <= 8; seed++) {
      const jobId = `job${seed}`
      const next = random(seed)
      const pick = (count: number) => Math.floor(next() * count)
      let store = new RunStore(redis.client, redis.keys)
      const take = async (holder: string) => {
        const acquired = await store.acquire(jobId, { holder, fresh: record(jobId) })
        if (acquired.kind !== 'acquired') throw new Error('it has ended')
        return { fence: acquired.fence, record: acquired.record }
      }
      let held = await take('a')
      const watched = [redis.keys.run(jobId), redis.keys.events(), redis.keys.eventAccount()]
      /** What a failover to a replica that lacks the last write does. */
      const losing = async (write: () => Promise<unknown>) => {
        const before = await Promise.all(watched.map((key) => client.dumpBuffer(key)))
        await write()
        for (const [index, key] of watched.entries()) {
          await client.del(key)
          const dump = before[index]
          if (dump != null) await client.restore(key, 0, dump)
        }
      }
      let restarts = 0
      for (let turn = 0; turn < 40; turn++) {
        const { record: now } = held
        const last = now.attempts.at(-1)
        const running = last?.outcome === 'running' && last.sandboxId !== null
        const others = now.attempts.slice(0, -1)
        let change: Partial<RunRecord> = {}
        if (last === undefined || last.outcome !== 'running') change = { attempts: [...now.attempts, attempt('a', pick(2) === 0 ? null : `s${turn}`)] }
        else if (!running) change = { attempts: [...others, pick(3) === 0 ? { ...last, outcome: 'unavailable' } : { ...last, sandboxId: `s${turn}` }] }
        else {
          const what = pick(6)
          if (what <= 2) change = { steps: [...now.steps, step(`step ${turn}`)] }
          else if (what === 3) change = { checkpoint: checkpoint(`c${turn}`, now.steps.length) }
          else if (what === 4) change = { attempts: [...others, { ...last, outcome: 'lost' }], steps: now.steps.slice(0, now.checkpoint?.stepIndex ?? 0) }
          else {
            restarts += 1
            change = { attempts: [...others, { ...last, outcome: 'failed' }], steps: [], checkpoint: null, restart: { count: restarts, atMs: 1, attemptsBefore: now.attempts.length } }
          }
        }
        held = { ...held, record: { ...now, ...change } }
        const write = () => store.save(jobId, held.fence, held.record, undefined, telling)
        // The next write, or the end, finds out.
        const lost = pick(8) === 0
        if (lost) await losing(write)
        else await write()
        if (pick(8) === 0) {
          store = new RunStore(redis.client, redis.keys)
          held = await take(`b${turn}`)
          restarts = held.record.restart?.count ?? 0
        }
      }
      const promoted = { to: 'main', sha: 'c', result: 'fast_forward' } as const
      held = { ...held, record: { ...held.record, promoted } }
      if (pick(2) === 0) await losing(() => store.save(jobId, held.fence, held.record, undefined, telling))
      const end = result(jobId)
      await store.finish(jobId, held.fence, held.record, end, completionEvent(end), [], telling)

      const told = await toldOf(jobId)
      const problem = orderProblem(told, restarts)
      if (problem !== null) throw new Error(`seed ${seed}: ${problem}`)
      const ids = new Set(told.map(({ id }) => id))
      const final = held.record
      const wanted = [
        ...final.attempts.flatMap(({ sandboxId }, index) => (sandboxId === null ? [] : [index + 1])).map((number) => [`${jobId}.1.started.${number}`, `${jobId}.1.moved.${number}`]),
        ...(final.checkpoint === null ? [] : [[...Array(final.attempts.length).keys()].map((number) => `${jobId}.1.checkpoint.${number + 1}.${final.checkpoint?.sha ?? ''}`)]),
        [`${jobId}.1.promoted`],
        [`${jobId}.1`],
      ]
      for (const either of wanted) expect(either.some((id) => ids.has(id)), `seed ${seed}: ${either.join(' or ')} is told`).toBe(true)
      for (const index of final.steps.keys()) expect(told.some(({ id }) => id.startsWith(`${jobId}.1.step.`) && id.endsWith(`.${index}`)), `seed ${seed}: step ${index} is told`).toBe(true)
    }
  })

  it('is told nothing by a holder whose fence is lost', async () => {
    const store = new RunStore(redis.client, redis.keys)
    const first = await store.acquire('job', { holder: 'a', fresh: record('job') })
    await new RunStore(redis.client, redis.keys).acquire('job', { holder: 'b', fresh: record('job') })
    if (first.kind !== 'acquired') throw new Error('it has ended')
    await expect(store.save('job', first.fence, record('job', { attempts: [attempt('a', 's1')] }), undefined, telling)).rejects.toThrow(/job/)
    const end = result('job')
    await expect(store.finish('job', first.fence, record('job', { steps: [step('a')] }), end, completionEvent(end), [], telling)).rejects.toThrow(/job/)
    expect(await toldOf('job')).toEqual([])
  })

  it('is told of by the kinds that were asked for, and to the webhooks that want them', () => {
    const asked = { events: ['moved' as const], webhooks: [{ url: 'https://a.example/', secretName: 'A' }, { url: 'https://b.example/', secretName: 'B', events: ['started' as const, 'completed' as const] }] }
    const tell = tellingOf(record('job', { asked }), { source: '/test', everywhere: ['promoted'], now: () => 1 })
    const after = record('job', { attempts: [attempt('a', 's1', 'lost'), attempt('b', 's2')], steps: [step('a')], promoted: { to: 'main', sha: 'c', result: 'no_op' } })
    expect(tell?.(record('job'), after).map(({ kind, hooks }) => [kind, hooks.map(({ n }) => n)])).toEqual([['started', [1]], ['moved', []], ['promoted', []]])
    expect(hooksFor('completed', asked)).toEqual([{ n: 0, url: 'https://a.example/', secret: 'A' }, { n: 1, url: 'https://b.example/', secret: 'B' }])
    expect(tellingOf(record('job', { asked: { webhooks: [asked.webhooks[0]!] } }), { source: '/test', everywhere: [], now: () => 1 })).toBeUndefined()
  })
})
