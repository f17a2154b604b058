// Redis commands of a consumer per job, by command and script, counted where they are sent: for a job with one step and no output,
// and for one with two steps, 10 lines of output, a checkpoint and a push; beside a plain BullMQ worker whose jobs do nothing.
// A script counts once as sent; what Redis executes, commands inside of scripts included, is counted by Redis itself. And the same a second, for
// either while there is nothing to do.
import { setTimeout as delay } from 'node:timers/promises'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { Consumer, secretsFromEnvironment } from '../src/consumers/index.js'
import { startRedis } from '../src/embedded/index.js'
import type { JobSpecInput } from '../src/job/spec.js'
import { AgentQueue } from '../src/producers/index.js'
import { inMemoryGitHost } from './in-memory/git-host.js'
import { InMemoryProvider } from './in-memory/provider.js'
import { report } from './report.js'

const rounds = 50
/** Longer than the rounds of what a consumer does seldom, with the settings that it has by default. */
const idleSeconds = 30
type SentCommand = Parameters<Redis['sendCommand']>[0]

/** What each connection has sent, by the command's or the script's name. */
const sent = new Map<Redis, Map<string, number>>()
const send: unknown = Reflect.get(Redis.prototype, 'sendCommand')
Redis.prototype.sendCommand = function (this: Redis, command: SentCommand, ...rest: unknown[]): unknown {
  const counts = sent.get(this) ?? new Map<string, number>()
  sent.set(this, counts)
  const name = /^eval/.test(command.name) ? scriptName(this, String(command.args[0])) : command.name
  counts.set(name, (counts.get(name) ?? 0) + 1)
  return (send as (...args: unknown[]) => unknown).call(this, command, ...rest)
}

function scriptName(redis: Redis, digest: string): string {
  // ioredis keeps the scripts of a connection there; its types don't say so.
  const scripts = Reflect.get(redis, 'scriptsSet') as Record<string, { readonly sha: string }>
  const name = Object.keys(scripts).find((key) => scripts[key]?.sha === digest) ?? digest
  return name.startsWith('switchyard:') ? name.slice('switchyard:'.length) : `bullmq ${name.replace(/:.*/, '')}`
}

/** Commands that these connections send during `work`, and that Redis executes in all, for each of `units`: jobs, or seconds. */
async function counted(server: Redis, connections: readonly Redis[], work: () => Promise<unknown>, units = rounds): Promise<{ sent: Map<string, number>; total: number; executed: number }> {
  for (const connection of connections) sent.get(connection)?.clear()
  await server.config('RESETSTAT')
  await work()
  const sum = new Map<string, number>()
  for (const connection of connections) for (const [name, count] of sent.get(connection) ?? []) sum.set(name, (sum.get(name) ?? 0) + count / units)
  const stats = await server.info('commandstats')
  const executed = [...stats.matchAll(/calls=(\d+)/g)].reduce((all, match) => all + Number(match[1]), 0) / units
  return { sent: sum, total: [...sum.values()].reduce((all, count) => all + count, 0), executed }
}

const redis = await startRedis()
const server = new Redis(redis.url)
await server.ping()
const provider = new InMemoryProvider('in-memory')
const consumer = new Consumer({
  deployment: 'bench',
  redis: { url: redis.url },
  git: inMemoryGitHost,
  providers: [{ provider, limit: { sandboxes: 20 } }],
  secrets: secretsFromEnvironment([]),
  log: pino({ level: 'silent' }),
})
const before = new Set(sent.keys())
await consumer.start()
const consumers = [...sent.keys()].filter((connection) => !before.has(connection))
const queue = new AgentQueue({ redis: { url: redis.url } })

try {
  const oneAfterAnother = async (spec: JobSpecInput) => {
    for (let round = 0; round < rounds; round++) {
      const result = await (await queue.enqueue(spec)).result()
      if (result.status !== 'succeeded') throw new Error(result.error?.message)
    }
  }
  const plain = { repository: 'bench/jobs', push: false as const, steps: ['true'] }
  const pushing = { repository: 'bench/jobs', steps: ['sleep 0.105 # line every 0.01', 'true'] }
  await oneAfterAnother(plain)
  const one = await counted(server, consumers, () => oneAfterAnother(plain))
  const two = await counted(server, consumers, () => oneAfterAnother(pushing))

  const idle = await counted(server, consumers, () => delay(1_000 * idleSeconds), idleSeconds)

  const known = new Set(sent.keys())
  const bull = new Queue('plain', { connection: { url: redis.url } })
  let ended = 0
  const worker = new Worker('plain', async () => undefined, { connection: { url: redis.url, maxRetriesPerRequest: null } })
  worker.on('completed', () => ended++)
  await worker.waitUntilReady()
  const workers = [...sent.keys()].filter((connection) => !known.has(connection))
  const baseline = await counted(server, workers, async () => {
    for (let round = 0; round < rounds; round++) {
      await bull.add('job', {})
      while (ended <= round) await new Promise((resolve) => setTimeout(resolve, 1))
    }
  })
  await consumer.stop()
  const idleBaseline = await counted(server, workers, () => delay(1_000 * idleSeconds), idleSeconds)
  await worker.close()
  await bull.close()

  const round = (value: number) => Number(value.toFixed(1))
  for (const [what, { sent: counts }] of [['one step', one], ['two steps, output, checkpoint, push', two], ['plain BullMQ', baseline], ['idle, a second', idle], ['plain BullMQ idle, a second', idleBaseline]] as const) {
    console.log(`${what}:`)
    for (const [name, count] of [...counts].toSorted((a, b) => b[1] - a[1])) if (count >= 0.05) console.log(`  ${name.padEnd(42)} ${count.toFixed(2)}`)
  }
  await report('redis-commands', {
    oneStepSent: round(one.total),
    oneStepExecuted: round(one.executed),
    checkpointJobSent: round(two.total),
    checkpointJobExecuted: round(two.executed),
    plainBullmqSent: round(baseline.total),
    plainBullmqExecuted: round(baseline.executed),
    idleSentPerSecond: round(idle.total),
    idleExecutedPerSecond: round(idle.executed),
    plainBullmqIdleSentPerSecond: round(idleBaseline.total),
    plainBullmqIdleExecutedPerSecond: round(idleBaseline.executed),
    ...Object.fromEntries([...one.sent].filter(([, count]) => count >= 0.05).map(([name, count]) => [`oneStep ${name}`, round(count)])),
  })
} finally {
  await consumer.stop()
  await queue.close()
  server.disconnect()
  await redis.close()
}
