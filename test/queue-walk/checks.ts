import { readFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { z } from 'zod'
import { eventKinds, type JobEvent } from '../../src/events/index.js'
import { UnknownJobError } from '../../src/job/errors.js'
import { checkKeys, documentedKeys } from '../chaos/check-keys.js'
import { queueNames, settings } from './deployment.js'
import { toldRules } from './told-checks.js'
import type { World } from './world.js'

/** What Redis holds when all is quiet, read once for all rules. */
export interface Quiet {
  readonly world: World
  /** Each key with what is left of its life, -1 without an end. */
  readonly keys: ReadonlyMap<string, number>
  /** The ids of all events, as often as each is there. */
  readonly events: ReadonlyMap<string, number>
  /** All events, as readers get them. */
  readonly told: readonly JobEvent[]
  /** By the job's id among all queues. */
  readonly runs: ReadonlyMap<string, Readonly<Record<string, string>>>
}

/** Returns a sentence for each thing that is not as it should be. */
export type Rule = (quiet: Quiet) => Promise<string[]>

const rules: readonly Rule[] = [nothingBroke, everyRunHasEnded, everyEndIsTold, noEventIsTwice, noSandboxIsLeft, noPlaceIsTaken, onlyDocumentedKeys, budgetsHaveNoRuns, indexIsEmpty, tenantsHaveNothing, bullmqHoldsNothingOfOurs, everyKnownJobHasItsResult, ...toldRules]

/**
 * What consumers see to by rounds of their own (sandboxes, places, keys with short lives) is waited for so long: a consumer that died in the middle of
 * a round of its reaper has the claim to that provider for as long as its calls might take, see src/consumers/reaping/reap-round.ts.
 */
const patienceMs = 2 * settings.callTimeoutMs + 30_000 + 10_000

/** Holds a deployment in which nothing waits or runs against the rules. @returns what is wrong, a sentence each. */
export async function check(world: World): Promise<string[]> {
  const giveUpAt = performance.now() + patienceMs
  for (;;) {
    const quiet = await look(world)
    const findings = (await Promise.all(rules.map((rule) => rule(quiet)))).flat()
    if (findings.length === 0 || performance.now() > giveUpAt) return findings
    await pause(500)
  }
}

async function look(world: World): Promise<Quiet> {
  const { client, main } = world
  const names = await client.keys('*')
  const keys = new Map<string, number>()
  for (const name of names) {
    const lifeMs = await client.pttl(name)
    // It was gone between the two.
    if (lifeMs !== -2) keys.set(name, lifeMs)
  }
  const told = await allEvents(world)
  const events = new Map<string, number>()
  for (const { id } of told) events.set(id, (events.get(id) ?? 0) + 1)
  const runs = new Map<string, Record<string, string>>()
  const prefix = main.keys.ofRuns().run('')
  for (const name of names) if (name.startsWith(prefix)) runs.set(name.slice(prefix.length), await client.hgetall(name))
  return { world, keys, events, told, runs }
}

async function allEvents({ main, journal }: World): Promise<JobEvent[]> {
  const told: JobEvent[] = []
  for (let from: { after: string } | undefined; ; ) {
    const page = await main.queue.events.read({ limit: 1_000, types: eventKinds, ...(from === undefined ? {} : { from }) })
    for (const { event, json } of page) {
      if (event === null) journal.faults.push(`an event can't be read: ${json}`)
      else told.push(event)
    }
    const last = page.at(-1)
    if (last === undefined) return told
    from = { after: last.sequence }
  }
}

async function nothingBroke({ world }: Quiet): Promise<string[]> {
  return world.journal.faults
}

async function everyRunHasEnded({ runs }: Quiet): Promise<string[]> {
  return [...runs].filter(([, run]) => run['record'] !== undefined && run['result'] === undefined).map(([runId, run]) => `the run of job ${runId} has no end, and no job waits or runs: ${JSON.stringify(run)}`)
}

async function everyEndIsTold({ runs, events }: Quiet): Promise<string[]> {
  return [...runs].filter(([runId, { result, generation }]) => result !== undefined && !events.has(`${runId}.${generation ?? ''}`)).map(([runId, { generation, result }]) => `no event tells the end of run ${generation ?? ''} of job ${runId}: ${result ?? ''}`)
}

async function noEventIsTwice({ events }: Quiet): Promise<string[]> {
  // A job that was removed before anybody had begun it is enqueued anew under its idempotency key, for the same first run.
  return [...events].filter(([id, times]) => times > 1 && !/^(claim:)?key-\w+\.1\.enqueued$/.test(id)).map(([id, times]) => `event ${id} is told ${times} times`)
}

async function noSandboxIsLeft({ world }: Quiet): Promise<string[]> {
  const left: string[] = []
  for (const provider of world.providers) for await (const info of provider.list({})) left.push(`provider ${provider.name} still has a sandbox: ${JSON.stringify(info)}`)
  return left
}

async function noPlaceIsTaken({ world }: Quiet): Promise<string[]> {
  const loads = await world.main.queue.providers()
  const leases = Object.values(await world.client.hgetall(`${world.main.keys.ledger()}:lease`)).join()
  return loads.filter(({ used, waiting }) => used > 0 || waiting > 0).map((load) => `at provider ${load.provider} places are taken or waited for, and no job runs: ${JSON.stringify(load)} ${leases}`)
}

/** What the keys of BullMQ's queues and of their jobs begin with, which applications may have added to. */
const ofQueues = new RegExp(`^[^:]+:(${queueNames.join('|')}):`)
// BullMQ's schedulers make ids of their own.
const allowed = documentedKeys(readFileSync(new URL('../../docs/operating.md', import.meta.url), 'utf8'), queueNames, String.raw`repeat:\w+:\d+|[^:]+`)

async function onlyDocumentedKeys({ keys }: Quiet): Promise<string[]> {
  const ours = new Map([...keys].filter(([key]) => !ofQueues.test(key)))
  // Which ids there were nobody knows: schedulers and flows make them too.
  return checkKeys(ours, { has: () => true }, allowed).map(({ what }) => what)
}

/** What the index has of a queue by its epoch; and of that what it may keep while nothing waits there: who can run what, and how far it was looked through. */
const indexed = /^[^:]+:ready:q:\w+:\d+:/
const standing = /:\d+:(?:demand|empty|shapes?|mapped|policy|skipped|views|v:[^:]+:(?:fit|class|order))$/

/** What budgets still have of runs: whatever a run was charged with goes with its end. */
async function budgetsHaveNoRuns({ world, runs }: Quiet): Promise<string[]> {
  const left = await world.client.hgetall(`${world.main.keys.costs()}:runs`)
  return Object.entries(left).map(([runId, account]) => `the budgets still have run ${runId}: ${account}, and of it Redis has ${JSON.stringify(runs.get(runId) ?? null)}`)
}

async function indexIsEmpty({ keys, world }: Quiet): Promise<string[]> {
  const index = world.main.keys.ready()
  const left = [...keys.keys()].filter((key) => (indexed.test(key) && !standing.test(key)) || key === `${index}:begun`)
  const listed = Object.entries(await world.client.hgetall(`${index}:listed`)).filter(([, count]) => count !== '0')
  return [...left.map((key) => `the index of waiting jobs still has ${key}`), ...listed.map(([queue, count]) => `the index counts ${count} jobs of ${queue} that wait`)]
}

/** As lua/accounts.lua writes it: what a tenant has in hand, and how many heaps of its jobs there are. */
const account = z.string().transform((text) => {
  const [, , , held = '', heaps = ''] = (text.split(':')[0] ?? '').split(' ')
  return { held, heaps }
})

async function tenantsHaveNothing({ world }: Quiet): Promise<string[]> {
  const accounts = Object.entries(await world.client.hgetall(`${world.main.keys.ready()}:tenant`))
  return accounts.flatMap(([tenant, text]) => {
    const { held, heaps } = account.parse(text)
    return held === '0' && heaps === '0' ? [] : [`tenant ${tenant} has jobs by its account: ${text}`]
  })
}

async function bullmqHoldsNothingOfOurs({ keys, world }: Quiet): Promise<string[]> {
  const left: string[] = []
  for (const key of keys.keys()) {
    if (!ofQueues.test(key)) continue
    if (key.endsWith(':lock')) left.push(`${key} is locked, and no job runs`)
    else if ((await world.client.type(key)) === 'hash' && (await world.client.hexists(key, 'sy')) === 1) left.push(`${key} still says where it waits in the index: ${JSON.stringify(await world.client.hgetall(key))}`)
  }
  return left
}

/** Who waits for a job that was added gets its result, or learns that nobody knows it any more. */
async function everyKnownJobHasItsResult({ world }: Quiet): Promise<string[]> {
  const answers = world.jobs.map(async ({ side, jobId }) => {
    try {
      await side.queue.job(jobId).result({ timeoutMs: 3_000 })
      return []
    } catch (error) {
      if (error instanceof UnknownJobError) return []
      return [`job ${jobId} of ${side.name} has no result: ${String(error)}; its status is ${JSON.stringify(await side.queue.job(jobId).status().catch(String))}`]
    }
  })
  return (await Promise.all(answers)).flat()
}
