import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { idsOf, limitOf, pointOf } from '../../src/cli/event-flags.js'
import { deadTable, eventLine, groupsTable } from '../../src/cli/event-report.js'
import { type CompletionEvent, completionEvent, EventGroups, subscribe } from '../../src/events/index.js'
import type { JobResult } from '../../src/job/result.js'
import { type EmbeddedRedis, startRedis } from '../../src/embedded/index.js'
import { createRedis, Keys, RunStore } from '../../src/store/index.js'
import { record, result, until } from '../store/fixture.js'
import { makePlace, type Place } from './run-switchyard.js'

const terminal = '\u001b]0;owned\u0007\u001b[2J\u202etxt\nnot our line'

describe('with events of three jobs and a group that gives one up', () => {
  let place: Place
  let redis: EmbeddedRedis
  const keys = new Keys('{events}')
  let end: (jobId: string, more?: Partial<JobResult>) => Promise<void>
  let dead: () => Promise<{ id: string }[]>
  let stop: () => void

  const switchyard = (...args: string[]) => place.command(args)
  const json = async <Value>(...args: string[]) => JSON.parse((await switchyard(...args, '--json')).stdout) as Value

  beforeAll(async () => {
    ;[place, redis] = await Promise.all([makePlace(), startRedis()])
    await writeFile(join(place.folder, 'switchyard.config.json'), JSON.stringify({ redis: { url: redis.url }, queue: { prefix: keys.prefix } }))
    const client = createRedis({ url: redis.url }, 'commands')
    const store = new RunStore(client, keys)
    end = async (jobId, more = {}) => {
      const acquired = await store.acquire(jobId, { holder: 'a', fresh: record(jobId) })
      if (acquired.kind !== 'acquired') throw new Error('it had ended')
      const ended = result(jobId, more)
      await store.finish(jobId, acquired.fence, record(jobId), ended, completionEvent(ended))
    }
    const groups = new EventGroups(keys, (work) => work(client))
    dead = () => groups.dead({ group: 'billing' })
    const died: unknown[] = []
    const subscription = subscribe({ url: redis.url }, 'billing', ({ subject }) => {
      if (subject !== 'fine') throw new Error(`no bill for ${subject}: ${terminal}`)
    }, { prefix: keys.prefix, attempts: 1, onError: () => undefined, onDead: (event) => died.push(event) })
    await end('fine')
    await end('bad', { status: 'failed', error: { kind: 'step-failed', message: terminal, code: 'SWY_STEP_FAILED' }, repository: 'acme/web' })
    await end('worse')
    await until(() => died.length === 2, 'two events are dead')
    await subscription.close()
    stop = () => client.disconnect()
  })
  afterAll(async () => {
    stop()
    await place.remove()
    await redis.close()
  })

  it('prints what is kept, from a point on, and nothing in it moves the terminal', async () => {
    const all = await switchyard('events')
    expect(all.code, all.stderr).toBe(0)
    const lines = all.stdout.trimEnd().split('\n')
    expect(lines.map((line) => line.split(/ {2,}/).slice(2, 4))).toEqual([['succeeded', 'fine'], ['failed', 'bad'], ['succeeded', 'worse']])
    expect(all.stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/)
    const events = (await switchyard('events', '--json')).stdout.trimEnd().split('\n').map((line) => JSON.parse(line) as CompletionEvent)
    expect(events.map(({ subject, type }) => [subject, type])).toEqual([['fine', 'dev.switchyard.job.succeeded'], ['bad', 'dev.switchyard.job.failed'], ['worse', 'dev.switchyard.job.succeeded']])
    expect((await switchyard('events', '--after', events[1]?.sequence ?? '')).stdout.trimEnd().split('\n')).toEqual(lines.slice(2))
    expect((await switchyard('events', '--since', '2000-01-01', '--limit', '1')).stdout.trimEnd()).toBe(lines[0])
  })

  it('goes on with what comes, until Ctrl-C', async () => {
    const following = place.run(['events', '--follow'])
    await following.saw(/ worse /)
    await end('later')
    await following.saw(/ later /)
    following.child.kill('SIGINT')
    expect(await following.ended).toBe(130)
  })

  it('shows groups and dead events, and gives these back, one or all', async () => {
    expect((await switchyard('events', 'groups')).stdout).toMatch(/^GROUP +UNREAD.*\nbilling +\d+ +0 +2 +2 +0 +0$/m)
    const shown = await switchyard('events', 'dead')
    expect(shown.stdout).toMatch(/^ID +GROUP +JOB.*\n\d+-\d+ +billing +bad +failed .* 1 +no bill for bad: .*\n\d+-\d+ +billing +worse +succeeded/)
    expect(shown.stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/)
    const letters = await json<{ id: string; group: string; error: string; event: CompletionEvent }[]>('events', 'dead', '--group', 'billing')
    expect(letters.map(({ group, event, error }) => [group, event.subject, error])).toEqual(['bad', 'worse'].map((id) => ['billing', id, `no bill for ${id}: ${terminal}`]))
    expect(await json('events', 'dead', '--group', 'billing', '--limit', '1')).toHaveLength(1)

    const [first = ''] = letters.map(({ id }) => id)
    expect(await json('events', 'redeliver', '--group', 'billing', first)).toEqual({ group: 'billing', redelivered: 1 })
    expect((await dead()).map(({ id }) => id)).toEqual([letters[1]?.id])
    expect((await switchyard('events', 'redeliver', '-g', 'billing', first)).stdout).toBe('group billing: 0 events given back; 1 of 1 is not among its dead events any more\n')
    expect((await switchyard('events', 'redeliver', '-g', 'billing', '--all')).stdout).toBe('group billing: 1 event given back\n')
    expect(await dead()).toEqual([])
    expect((await switchyard('events', 'dead')).stdout).toBe('no dead events\n')
    const [group] = await json<{ unread: number; pending: number }[]>('events', 'groups')
    expect(group?.pending).toBe(2)
    expect((await switchyard('events', 'replay', '-g', 'billing', '--since', '2000-01-01')).code).toBe(0)
    const [replayed] = await json<{ unread: number }[]>('events', 'groups')
    expect(replayed?.unread).toBeGreaterThan(group?.unread ?? 0)
    // What is gone is told, and not on stdout, which is for events.
    const client = createRedis({ url: redis.url }, 'commands')
    await client.xtrim(keys.events(), 'MAXLEN', 1)
    client.disconnect()
    const gone = /up to \d+ events? from there on (is|are) gone: the first that is kept is \d+-\d+; to keep more, raise consumer\.events\n$/
    expect((await switchyard('events', 'replay', '-g', 'billing', '--since', '2000-01-01')).stdout).toMatch(gone)
    const read = await switchyard('events', '--after', '0-0', '--json')
    expect(read.stdout.trim().split('\n')).toHaveLength(1)
    expect(read.stderr).toMatch(gone)
    expect((await switchyard('events')).stderr).toBe('')
  })

  it.each([
    [['events', 'dead', '--group', 'nobody'], 'nobody has subscribed as "nobody"'],
    [['events', 'redeliver', '--group', 'billing'], 'give the ids of dead events, or --all, and not both'],
    [['events', 'replay', '--group', 'billing'], 'give --since or --after'],
  ])('%j is refused', async (args, sentence) => {
    const { code, stdout, stderr } = await switchyard(...args)
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toContain(sentence)
  })
})

it.each<[() => unknown, string]>([
  [() => pointOf({ since: 'yesterday' }), '--since: "yesterday" must be a time'],
  [() => pointOf({ since: '2026-13-45' }), '--since: "2026-13-45" must be a time'],
  [() => pointOf({ since: '12' }), '--since: "12" must be a time'],
  [() => pointOf({ since: '2026-02-30' }), '--since: "2026-02-30" names a day that no calendar has'],
  [() => pointOf({ since: '2026-12-01T23:59:60Z' }), '--since: "2026-12-01T23:59:60Z" must be a time'],
  [() => pointOf({ after: 'x' }), '--after: "x" must be the sequence of an event'],
  [() => pointOf({ after: '1-0', since: '2026-01-01' }), '--after: is given together with --since'],
  [() => limitOf('0', 1_000), '--limit: "0" must be a whole number from 1 to 1000'],
  [() => limitOf('1e9', 1_000), '--limit: "1e9" must be a whole number from 1 to 1000'],
  [() => idsOf([], {}), 'give the ids of dead events, or --all, and not both'],
  [() => idsOf(['1-0'], { all: true }), 'give the ids of dead events, or --all, and not both'],
])('flag %# is refused', (read, sentence) => {
  expect(read).toThrow(sentence)
})

it('flags name a point', () => {
  expect([pointOf({}), pointOf({ after: '1-0' }), pointOf({ since: '1970-01-01T00:00:01Z' }), pointOf({ since: '2h' }, 10_000_000)]).toEqual([undefined, { after: '1-0' }, { sinceMs: 1_000 }, { sinceMs: 2_800_000 }])
  expect([idsOf(['1-0', '1-0', '2-0'], {}), idsOf([], { all: true })]).toEqual([['1-0', '2-0'], 'all'])
})

it('shows what it can’t read, and no group or letter, by a sentence', () => {
  expect(eventLine({ sequence: '1-0', event: null, json: 'x'.repeat(1_000) })).toBe(`1-0  can't be read: ${'x'.repeat(200)}…`)
  expect([groupsTable([]), deadTable([])]).toEqual(['no group reads events yet; one is made by subscribe()', 'no dead events'])
  const [, line] = deadTable([{ id: '1-0', group: terminal, event: null, json: '{', attempts: 3, error: terminal, diedAtMs: 0 }]).split('\n')
  expect(line).toMatch(/^1-0 +\S.* - +can't be read +1970-01-01T00:00:00Z +3 +/)
  expect(line).not.toMatch(/[\u0000-\u001f\u202e]/)
})
