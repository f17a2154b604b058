// What choosing a job and its place costs, by Redis' own clock, against how much waits: jobs, tenants, images, kinds of demand, queues; with room at all
// providers, with all of them full but one that nobody may use, and right after a drain, an obliterate and a flush. Each row is a Redis of its own. A job is
// put there as BullMQ holds it, without its scripts; the index, the ledger and the calls are the real ones. `SIZES=1000,200000` chooses the sizes, `STATES=full,drained` the states,
// `TENANTS=10000 DEMANDS=1 QUEUES=1` the rows of these.
// Beside each look the same Redis runs a yardstick: a script that always does the same and takes as long as a look does. Its 99th percentile and its
// longest time are the machine's own. What a turn executes is counted besides: it is the same each time. Because it is, the same call of several runs
// (`RUNS=3`) does the same, collecting Lua's garbage included, and what it took in the quietest of them is what Redis needs for it (`least…`): no machine
// takes time away, and none holds up the same call three times.
import { setPriority } from 'node:os'
import { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { startRedis } from '../src/embedded/index.js'
import { parseJobSpec, type JobSpec } from '../src/job/spec.js'
import { createRedis, Keys, type KnownConstraints, type ProviderLimit, ReadyJobs } from '../src/store/index.js'
import { plot } from './plot.js'
import { redisFigures } from './redis-figures.js'
import { reportTable } from './report.js'

const sizes = (process.env['SIZES'] ?? '1000,10000,200000').split(',').map(Number)
const rounds = Number(process.env['ROUNDS'] ?? 1_500)
const runs = Number(process.env['RUNS'] ?? 1)
const names = ['a', 'b', 'c', 'd', 'e']

/** Well under what any script takes, and over most commands in one. */
const loggedFromUs = 20

/** Thirty commands, and so many steps of Lua. */
const yardstick = "local x = 0 for i = 1, 30 do redis.call('HSET', KEYS[1], i, i) end for i = 1, ARGV[1] do x = x + i % 7 end return x"

interface Row {
  readonly jobs: number
  readonly tenants: number
  readonly images: number
  readonly demands: number
  readonly queues: number
  readonly state: 'room' | 'full' | 'drained' | 'obliterated' | 'flushed'
}

interface Measured {
  readonly figures: Record<string, number | string>
  /** What each call took, in µs, in their order. */
  readonly eachUs: readonly number[]
}

function specOf(index: number, { tenants, images, demands, state }: Row): JobSpec {
  return parseJobSpec({
    repository: 'acme/web',
    steps: ['true'],
    tenant: `tenant-${index % tenants}`,
    image: `registry.example.com/team/image:${index % images}`,
    ...(demands === 1 ? {} : { resources: { cpu: 1 + (index % demands) / 100 } }),
    ...(state === 'full' ? { providers: { deny: ['e'] } } : {}),
  })
}

/**
 * The client of this benchmark is on the same two cores, and the time of a script goes on while Node's collector has its core for a slice of 4 ms: Redis goes
 * first where that is allowed, which takes root.
 */
async function ahead(client: Redis): Promise<void> {
  const pid = Number(/process_id:(\d+)/.exec(await client.info('server'))?.[1])
  try {
    setPriority(pid, -20)
  } catch (error) {
    console.error(`Redis has no priority over its client, which its longest times are of: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** One Redis with its queues, and a consumer of the first that does nothing but look and end. */
async function measure(row: Row): Promise<Measured> {
  const server = await startRedis()
  const client = createRedis({ url: server.url }, 'commands')
  await ahead(client)
  const sides = Array.from({ length: row.queues }, (_, index) => {
    const keys = new Keys(undefined, `queue-${index}`)
    return { keys, ready: new ReadyJobs(client, keys) }
  })
  const limits: ProviderLimit[] = names.map((provider) => ({ provider, sandboxes: row.state === 'full' && provider !== 'e' ? 2 : 20 }))
  const memory = async () => (await redisFigures(client)).usedBytes
  const means = { profileId: 'bench', providers: names, secrets: [], shares: false }
  // What Redis used of a processor, whatever else the machine did meanwhile.
  const cpuUs = async () => 1000 * (await redisFigures(client)).cpuMs
  let leases = 0
  async function look(side: (typeof sides)[number], idleMs = 0): Promise<string | null> {
    let known: KnownConstraints[] = []
    for (;;) {
      const found = await side.ready.dispatch({ holder: 'bench', leaseId: `l${leases++}`, limits, known, choice: 'most-free', means: { ...means, viewId: side.keys.queueName }, graceMs: 60_000, idleMs })
      known = found.unknown.map(({ id, number, json }) => ({ id, number, can: [names.filter((name) => !(JSON.parse(json) as { providers: { deny: string[] } }).providers.deny.includes(name))] }))
      if (found.what === 'take') return await client.rpop(side.keys.bullmq('wait'))
      if (found.what === 'nothing' && known.length === 0) return null
    }
  }
  const stats = async (command: 'eval' | 'evalsha' = 'evalsha') => {
    const [latency, slow, counts] = await Promise.all([client.info('latencystats'), client.slowlog('GET', 100_000), client.info('commandstats')])
    const [, p50, p99] = new RegExp(`latency_percentiles_usec_${command}:p50=([\\d.]+),p99=([\\d.]+)`).exec(latency) ?? []
    const longest = (slow as [number, number, number, string[]][]).filter(([, , , [name]]) => name?.toLowerCase() === command).map(([, , us]) => us)
    const [, calls, us] = new RegExp(`cmdstat_${command}:calls=(\\d+),usec=(\\d+)`).exec(counts) ?? []
    return { calls: Number(calls), meanUs: Math.round(Number(us) / Number(calls)), p50Us: Math.round(Number(p50)), p99Us: Math.round(Number(p99)), maxUs: longest.length === 0 ? Math.round(Number(p99)) : Math.max(...longest) }
  }
  const reset = async () => {
    await client.config('RESETSTAT')
    await client.slowlog('RESET')
  }
  await client.config('SET', 'slowlog-log-slower-than', '1000', 'slowlog-max-len', '100000')

  const empty = await memory()
  let bullBytes = 0
  await reset()
  for (let start = 0; start < row.jobs; start += 1_000) {
    const batches = new Map<number, { jobId: string; spec: JobSpec }[]>()
    const pipeline = client.pipeline()
    for (let index = start; index < Math.min(row.jobs, start + 1_000); index++) {
      const queue = index % row.queues
      const job = { jobId: `job-${index.toString().padStart(32, '0')}`, spec: specOf(index, row) }
      batches.set(queue, [...(batches.get(queue) ?? []), job])
      const { keys } = sides[queue]!
      pipeline.hset(keys.job(job.jobId), 'name', 'job', 'priority', '100').zadd(keys.bullmq('prioritized'), 100 * 2 ** 32 + index + 1, job.jobId)
    }
    const before = await memory()
    await pipeline.exec()
    bullBytes += (await memory()) - before
    for (const [queue, batch] of batches) await sides[queue]!.ready.add(batch)
  }
  const bytesPerJob = Math.round(((await memory()) - empty - bullBytes) / row.jobs)
  const adds = await stats()

  const held: { side: (typeof sides)[number]; jobId: string }[] = []
  for (let full = false; !full; ) {
    full = true
    for (const side of sides) {
      const jobId = await look(side)
      if (jobId === null) continue
      held.push({ side, jobId })
      full = false
    }
  }
  const [first] = sides as [(typeof sides)[number]]
  // A consumer that is new to a queue puts its tenants into its own lists, 64 in a look; that is not what is measured.
  for (let tenants = 0; tenants < Math.min(row.tenants, row.jobs); tenants += 64) for (const side of sides.slice(0, 3)) await look(side)
  if (row.state === 'drained' || row.state === 'obliterated') {
    const connection = createRedis({ url: server.url }, 'commands')
    const queue = new Queue(first.keys.queueName, { connection, prefix: first.keys.prefix })
    if (row.state === 'drained') await queue.drain()
    else {
      await queue.pause()
      await queue.obliterate({ force: true, count: 100_000 })
    }
    await queue.close()
    connection.disconnect()
    // One comes behind all that are gone.
    await client.hset(first.keys.job('alive'), 'name', 'job')
    await client.zadd(first.keys.bullmq('prioritized'), 2 ** 32 + 1, 'alive')
    await first.ready.add([{ jobId: 'alive', spec: specOf(0, row) }])
  }
  if (row.state === 'flushed') await client.flushall()
  let taken = 0
  async function turn(round: number): Promise<void> {
    if (row.state === 'full') {
      await look(first)
      return
    }
    const ended = held[round % held.length]!
    await ended.side.ready.close(ended.jobId)
    const jobId = await look(ended.side)
    if (jobId === null) return
    taken += 1
    held[round % held.length] = { side: ended.side, jobId }
  }
  const measureOnly = async (steps: number) => await client.eval(yardstick, 1, 'yardstick', steps)
  await measureOnly(0)
  await client.config('SET', 'slowlog-log-slower-than', String(loggedFromUs))
  await reset()
  const cpuFrom = await cpuUs()
  for (let round = 0; round < rounds; round++) await turn(round)
  const looks = await stats()
  const cpuPerCall = Math.round(((await cpuUs()) - cpuFrom) / looks.calls)
  const eachUs = ((await client.slowlog('GET', 100_000)) as [number, number, number, string[]][]).filter(([, , , [name]]) => name?.toLowerCase() === 'evalsha').map(([, , us]) => us).toReversed()
  if (eachUs.length !== looks.calls) throw new Error(`Redis has logged ${eachUs.length} of ${looks.calls} scripts: some took under ${loggedFromUs} µs, and loggedFromUs is to be lower`)
  await client.config('SET', 'slowlog-log-slower-than', '1000')
  // The yardstick in turn with looks, as long as they are; what these do meanwhile is not measured again.
  await reset()
  for (let round = 0; round < 100; round++) await measureOnly(20_000)
  const steps = Math.round((20_000 * looks.meanUs) / (await stats('eval')).meanUs)
  await reset()
  for (let round = 0; round < rounds; round++) {
    await measureOnly(steps)
    await turn(round)
  }
  const machine = await stats('eval')
  // By commands, which no machine blurs: the least and the most of a turn.
  const commands: number[] = []
  for (let round = 0; round < rounds; round++) {
    const before = (await redisFigures(client)).commands
    await turn(round)
    // The four questions of the figures are no part of it.
    commands.push((await redisFigures(client)).commands - before - 4)
  }
  client.disconnect()
  await server.close()
  return { figures: { ...row, calls: looks.calls, taken, cpuUsPerCall: cpuPerCall, meanUs: looks.meanUs, p50Us: looks.p50Us, p99Us: looks.p99Us, maxUs: looks.maxUs, yardstickMeanUs: machine.meanUs, yardstickP99Us: machine.p99Us, yardstickMaxUs: machine.maxUs, leastCommands: Math.min(...commands), mostCommands: Math.max(...commands), addUsPerJob: Math.round((adds.meanUs * adds.calls * 10) / row.jobs) / 10, addMaxUs: adds.maxUs, bytesPerJob }, eachUs }
}

/** The quietest of some runs, and of each call its quietest of all: the machine adds, and takes nothing away. */
async function quietest(row: Row): Promise<Record<string, number | string>> {
  const all: Measured[] = []
  for (let run = 0; run < runs; run++) all.push(await measure(row))
  const [{ figures, eachUs }] = all.toSorted((a, b) => Number(a.figures['maxUs']) - Number(b.figures['maxUs'])) as [Measured]
  if (all.some((run) => run.eachUs.length !== eachUs.length)) return { ...figures, leastP50Us: 'other calls', leastP99Us: 'other calls', leastMaxUs: 'other calls' }
  const least = eachUs.map((_, call) => Math.min(...all.map((run) => run.eachUs[call] ?? Infinity))).toSorted((a, b) => a - b)
  const at = (share: number) => least[Math.ceil(share * least.length) - 1] ?? Number.NaN
  return { ...figures, leastP50Us: at(0.5), leastP99Us: at(0.99), leastMaxUs: at(1) }
}

const rows: Row[] = []
const plain = { tenants: 1, images: 1, demands: 1, queues: 1 }
const wide = { tenants: 10_000, images: 10_000, demands: 1, queues: 1 }
for (const jobs of sizes) {
  for (const state of ['room', 'full'] as const) rows.push({ jobs, ...plain, state }, { jobs, ...wide, state })
}
const most = Math.max(...sizes)
for (const state of ['room', 'full'] as const) rows.push({ jobs: most, ...wide, demands: 1_000, state }, { jobs: most, ...plain, demands: 1_000, state }, { jobs: most, ...wide, queues: 100, state })
for (const state of ['drained', 'obliterated', 'flushed'] as const) rows.push({ jobs: most, ...wide, state })
const states = process.env['STATES']?.split(',')
const table: Record<string, number | string>[] = []
const isWanted = (row: Row) => (states?.includes(row.state) ?? true) && (['tenants', 'demands', 'queues'] as const).every((field) => row[field] === Number(process.env[field.toUpperCase()] ?? row[field]))
for (const row of rows.filter(isWanted)) {
  const figures = await quietest(row)
  console.log(JSON.stringify(figures))
  table.push(figures)
}
await reportTable('dispatch', table)
const series = table.filter(({ demands, queues, state }) => demands === 1 && queues === 1 && (state === 'room' || state === 'full'))
await plot('dispatch', {
  title: 'Choosing a job and its place: p50 of a script, by Redis’ own clock',
  x: 'waiting jobs',
  y: 'µs',
  xLogarithmic: true,
  points: series.map(({ jobs, tenants, state, p50Us }) => ({ series: `${state === 'room' ? 'room' : 'all full'}, ${Number(tenants).toLocaleString('en')} tenants`, x: Number(jobs), y: Number(p50Us) })),
})
