import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { z } from 'zod'
import { git } from '../e2e/deployment.js'
import type { TreeEntries, Mode } from './tree.js'
import type { World } from './world.js'

/**
 * What a run left behind, read with nothing of Switchyard's own code: git by clones, Redis by its commands. What is read is
 * what users and operators can see, so a checker that is wrong about it is wrong about the documents as well.
 */
const prefix = '{switchyard}'

const errorSchema = z.object({ kind: z.string(), message: z.string(), owner: z.string().optional(), code: z.string().optional() }).nullable()
/** Held as milliseconds since 1970, shown as text. */
const time = z.number().transform((ms) => new Date(ms).toISOString()).or(z.string())
/** What has nothing to say is left out. */
const resultSchema = z.object({
  jobId: z.string(),
  status: z.string(),
  error: errorSchema.default(null),
  branch: z.string().nullable().default(null),
  commit: z.string().nullable().default(null),
  baseSha: z.string().nullable().default(null),
  promoted: z.object({ to: z.string(), sha: z.string() }).nullable().default(null),
  steps: z.array(z.object({ name: z.string(), exitCode: z.number().nullable().default(null), stdoutTail: z.string().default('') })).default([]),
  attempts: z.array(z.object({ provider: z.string(), sandboxId: z.string().nullable().default(null), endedAt: time.nullable().default(null), outcome: z.string().default('succeeded') })).default([]),
})
export type SeenResult = z.output<typeof resultSchema>
/** Of a run that has ended what its result doesn't say is left. */
const recordSchema = z.object({ phase: z.string().default('ended'), abandoned: z.array(z.object({ provider: z.string(), id: z.string() })).default([]) })
const eventSchema = z
  .object({ id: z.string(), data: resultSchema })
  .transform(({ id, data }) => ({ id, data, subject: data.jobId, type: `dev.switchyard.job.${data.status}` }))
export type SeenEvent = z.output<typeof eventSchema>

export interface SeenRun {
  readonly result: SeenResult | null
  readonly record: z.output<typeof recordSchema> | null
  /** The log, by step, stream and attempt: pieces in their order. */
  readonly pieces: readonly { readonly step: string; readonly stream: string; readonly attempt: number; readonly offset: number; readonly data: string }[]
  /** Whether the log says that it has ended, and how often. */
  readonly ends: number
  /** BullMQ's lists that name the job. */
  readonly listed: readonly string[]
}

export interface RedisEvidence {
  readonly runs: ReadonlyMap<string, SeenRun>
  readonly events: readonly SeenEvent[]
  /** Every key, with its time to live in milliseconds: -1 for none. */
  readonly keys: ReadonlyMap<string, number>
}

export async function readRedis(world: World, jobIds: readonly string[]): Promise<RedisEvidence> {
  const redis = new Redis(world.redis.url)
  try {
    const lists = new Map<string, Set<string>>()
    for (const [name, read] of [
      ['completed', () => redis.zrange(`${prefix}:agents:completed`, '0', '-1')],
      ['failed', () => redis.zrange(`${prefix}:agents:failed`, '0', '-1')],
      ['prioritized', () => redis.zrange(`${prefix}:agents:prioritized`, '0', '-1')],
      ['delayed', () => redis.zrange(`${prefix}:agents:delayed`, '0', '-1')],
      ['active', () => redis.lrange(`${prefix}:agents:active`, '0', '-1')],
      ['wait', () => redis.lrange(`${prefix}:agents:wait`, '0', '-1')],
    ] as const) {
      lists.set(name, new Set(await read()))
    }
    const runs = new Map<string, SeenRun>()
    for (const jobId of jobIds) {
      const hash = await redis.hgetall(`${prefix}::run:${jobId}`)
      const entries = (await redis.xrange(`${prefix}::log:${jobId}`, '-', '+')).map(([, fields]) => fieldsOf(fields))
      runs.set(jobId, {
        result: hash['result'] === undefined ? null : seenResult(JSON.parse(hash['result']), jobId),
        record: recordOf(hash),
        pieces: entries
          .filter((entry) => entry['s'] !== undefined)
          .map((entry) => ({ step: entry['s'] ?? '', stream: entry['o'] ?? '', attempt: Number(entry['n']), offset: Number(entry['b']), data: entry['d'] ?? '' })),
        // A run that printed nothing has no log.
        ends: entries.length === 0 ? 1 : entries.filter((entry) => entry['end'] !== undefined).length,
        listed: [...lists].filter(([, ids]) => ids.has(jobId)).map(([name]) => name),
      })
    }
    const events = (await redis.xrange(`${prefix}:events`, '-', '+')).map(([, fields]) => {
      const { id = '', event = '' } = fieldsOf(fields)
      return eventSchema.parse({ id, data: seenResult((JSON.parse(event) as { data: unknown }).data, id.replace(/\.[0-9]+$/, '')) })
    })
    const keys = new Map<string, number>()
    for (const key of await redis.keys('*')) keys.set(key, await redis.pttl(key))
    return { runs, events, keys }
  } finally {
    redis.disconnect()
  }
}

/** What its key says, and what a step is called that was given no name, is not held. */
function seenResult(held: unknown, jobId: string): SeenResult {
  const { steps = [], ...rest } = held as { steps?: object[] }
  return resultSchema.parse({ jobId, ...rest, steps: steps.map((step, index) => ({ name: `step ${index + 1}`, ...step })) })
}

/** What has changed of a record since it was written whole stands beside it, field by field. */
function recordOf(hash: Readonly<Record<string, string>>): z.output<typeof recordSchema> | null {
  if (hash['record'] === undefined) return null
  const changes = Object.entries(hash).filter(([field]) => /^r:[^:]+$/.test(field))
  return recordSchema.parse({ ...(JSON.parse(hash['record']) as object), ...Object.fromEntries(changes.map(([field, json]) => [field.slice(2), JSON.parse(json) as unknown])) })
}

function fieldsOf(fields: readonly string[]): Record<string, string> {
  return Object.fromEntries(Array.from({ length: fields.length / 2 }, (_, index) => [fields[2 * index] ?? '', fields[2 * index + 1] ?? '']))
}

/** A repository as a clone shows it. */
export interface RepositoryEvidence {
  /** Commits by branch: the ephemeral namespace's, and the other one's. */
  readonly ephemeral: ReadonlyMap<string, string>
  readonly branches: ReadonlyMap<string, string>
  tree(commit: string): Promise<TreeEntries>
  /** The commits on top of a base, the oldest first. */
  commits(base: string, head: string): Promise<{ readonly author: string; readonly subject: string }[]>
}

export async function readRepository(world: World, repository: string): Promise<RepositoryEvidence> {
  const folder = join(world.dir, `evidence-${repository.replace('/', '-')}.git`)
  await git(world.dir, 'init', '-q', '--bare', folder)
  for (const [namespace, ephemeral] of [['branches', false], ['ephemeral', true]] as const) {
    const access = await world.host.readAccess(repository, { ephemeral })
    const url = new URL(access.url)
    url.username = access.username
    url.password = access.token
    await git(folder, 'fetch', '-q', url.href, `+refs/heads/*:refs/${namespace}/*`)
  }
  const refs = async (namespace: string) => {
    const lines = (await git(folder, 'for-each-ref', '--format=%(objectname) %(refname)', `refs/${namespace}/`)).split('\n')
    return new Map(lines.filter((line) => line !== '').map((line) => [line.slice(41 + `refs/${namespace}/`.length), line.slice(0, 40)]))
  }
  return {
    ephemeral: await refs('ephemeral'),
    branches: await refs('branches'),
    async tree(commit) {
      const lines = (await git(folder, 'ls-tree', '-r', '-z', '--full-tree', commit)).split('\0').filter((line) => line !== '')
      return new Map(lines.map((line) => [line.slice(line.indexOf('\t') + 1), { mode: line.slice(0, 6) as Mode, blob: line.slice(12, 52) }]))
    },
    async commits(base, head) {
      const lines = (await git(folder, 'log', '--reverse', '--format=%an%x09%s', `${base}..${head}`)).split('\n').filter((line) => line !== '')
      return lines.map((line) => ({ author: line.split('\t')[0] ?? '', subject: line.split('\t')[1] ?? '' }))
    },
  }
}

/** The lines of all consumers' logs that name a job. */
export async function consumerLinesOf(logDir: string, jobId: string): Promise<string[]> {
  const files = (await readdir(logDir)).filter((name) => name.startsWith('consumer-')).sort()
  const lines: { time: number; line: string }[] = []
  for (const name of files) {
    for (const line of (await readFile(join(logDir, name), 'utf8')).split('\n')) {
      if (line.includes(jobId)) lines.push({ time: Number(/"time":(\d+)/.exec(line)?.[1] ?? 0), line: `${name}: ${line}` })
    }
  }
  return lines.sort((a, b) => a.time - b.time).map(({ line }) => line)
}
