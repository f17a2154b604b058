import { errorMessage } from '../job/errors.js'
import type { KeyHealth } from './key-health.js'

/** Whether a process can do its work now. */
export interface Readiness {
  readonly ready: boolean
  /** Why not, a clause each; none when it is ready. */
  readonly problems: readonly string[]
}

/** How long Redis may take to answer, in milliseconds. */
const patienceMs = 2_000

/** A consumer is ready while Redis answers, it has a provider whose key is taken, and the git host's is; one that hands its jobs over is not. */
export async function readinessOf(consumer: {
  readonly redis: { ping(): Promise<unknown> }
  readonly providers: readonly string[]
  readonly health: Pick<KeyHealth, 'isRefused' | 'problem'>
  readonly draining: () => boolean
}): Promise<Readiness> {
  const { redis, providers, health, draining } = consumer
  if (draining()) return { ready: false, problems: ['it is stopping: its jobs are handed over'] }
  const redisProblem = await answers(redis.ping(), patienceMs)
  const git = health.problem({ git: true })
  const problems = [
    ...(redisProblem === null ? [] : [`Redis: ${redisProblem}`]),
    ...(providers.some((provider) => !health.isRefused({ provider })) ? [] : ['no provider takes this consumer’s keys']),
    ...(git === null ? [] : [`git host: ${git}`]),
  ]
  return { ready: problems.length === 0, problems }
}

/** Null once it has answered in time, else what was wrong. */
async function answers(asked: Promise<unknown>, withinMs: number): Promise<string | null> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<string>((resolve) => (timer = setTimeout(() => resolve(`no answer within ${withinMs / 1000} s`), withinMs)))
  try {
    return await Promise.race([asked.then(() => null, (error: unknown) => errorMessage(error)), late])
  } finally {
    clearTimeout(timer)
  }
}
