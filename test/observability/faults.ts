import { subscribe } from '../../src/events/index.js'
import { sandboxTags } from '../../src/providers/provider.js'
import { until } from '../e2e/deployment.js'
import type { Trial } from './trial.js'

export type Undo = () => Promise<unknown>

/** A real fault, and the alerts that it has to fire. */
export interface Fault {
  readonly alerts: readonly string[]
  readonly what: string
  /** Brings it about. What it returns undoes it, once the alerts have fired. */
  readonly cause: (trial: Trial) => Promise<Undo | undefined>
}

const operator = { by: { id: 'trial', name: 'trial' } }
const spec = (fields: object = {}) => ({ repository: 'acme/web', steps: ['true'], push: false as const, ...fields })
const works = spec({ tenant: 'acme', steps: ['sleep 600'] })

const enqueue = async ({ deployment }: Trial, job: Parameters<Trial['deployment']['queue']['enqueue']>[0]) => await deployment.queue.enqueue(job)

async function endJobs({ deployment, patienceMs }: Trial, jobs: readonly Parameters<Trial['deployment']['queue']['enqueue']>[0][]): Promise<void> {
  const handles = await deployment.queue.enqueueMany(jobs)
  await Promise.all(handles.map((handle) => handle.result({ timeoutMs: patienceMs })))
}

type Handles = Awaited<ReturnType<Trial['deployment']['queue']['enqueueMany']>>

async function cancelAll({ patienceMs }: Trial, jobs: Handles): Promise<void> {
  await Promise.all(jobs.map((job) => job.cancel('seen')))
  await Promise.all(jobs.map((job) => job.result({ timeoutMs: patienceMs })))
}

/** Readers that have read all there is, and are gone. */
async function readersGone({ deployment, prometheus, patienceMs }: Trial): Promise<void> {
  const isThere = async () => (await deployment.queue.events.list()).some(({ group }) => group === 'gone')
  if (await isThere()) return
  const reader = subscribe({ url: deployment.redis.url }, 'gone', () => undefined, { from: 'now', onTrimmed: () => undefined })
  await until('the group to be there', isThere, patienceMs)
  await reader.close()
  // From here on Prometheus sees what increases.
  await until('the group to be scraped', async () => (await prometheus.series('switchyard_events_trimmed_unread_total{group="gone"}', 5)) > 0, patienceMs)
}

/** In an order in which none is in the way of those behind it. */
export const faults: readonly Fault[] = [
  {
    alerts: ['SwitchyardNoConsumer'],
    what: 'a job waits and there is no consumer',
    cause: async (trial) => {
      await enqueue(trial, spec())
      return undefined
    },
  },
  {
    alerts: ['SwitchyardQueuePaused'],
    what: 'somebody pauses the queue',
    cause: async (trial) => {
      await trial.deployment.queue.operations.pauseQueue(operator)
      await enqueue(trial, spec())
      return () => trial.deployment.queue.operations.resumeQueue(operator)
    },
  },
  {
    alerts: ['SwitchyardWebhooksFail'],
    what: 'a webhook’s receiver is gone',
    cause: async (trial) => {
      await trial.consumer()
      await endJobs(trial, [spec(), spec({ steps: ['exit 1'] })])
    },
  },
  {
    alerts: ['SwitchyardDeadLetters'],
    what: 'a reader fails as often as it may',
    cause: async (trial) => {
      await trial.consumer()
      await endJobs(trial, [spec()])
      const reader = subscribe({ url: trial.deployment.redis.url }, 'failing', () => Promise.reject(new Error('no')), { from: 'start', attempts: 1, onError: () => undefined })
      trial.onClose(() => reader.close())
    },
  },
  {
    alerts: ['SwitchyardEventsNotRead'],
    what: 'a reader is gone',
    cause: async (trial) => {
      await trial.consumer()
      await readersGone(trial)
      await endJobs(trial, [spec()])
    },
  },
  {
    alerts: ['SwitchyardEventsTrimmed'],
    what: 'what a reader has not read is trimmed',
    cause: async (trial) => {
      await trial.consumer()
      await readersGone(trial)
      await endJobs(trial, Array.from({ length: 4 }, () => spec()))
      const reader = subscribe({ url: trial.deployment.redis.url }, 'gone', () => undefined, { from: 'now', onTrimmed: () => undefined })
      return () => reader.close()
    },
  },
  {
    alerts: ['SwitchyardJobsWaitLong'],
    what: 'all places are taken',
    cause: async (trial) => {
      await trial.consumer()
      // More than consumers take in hand to have the next ones there.
      const jobs = await trial.deployment.queue.enqueueMany(Array.from({ length: 25 }, () => works))
      return () => cancelAll(trial, jobs)
    },
  },
  {
    alerts: ['SwitchyardCheckpointsFail'],
    what: 'the git host takes no push while a step runs',
    cause: async (trial) => {
      await trial.consumer()
      trial.broken.writes = true
      const job = await enqueue(trial, { repository: 'acme/web', steps: ['n=0; while :; do n=$((n+1)); echo $n > x.txt; sleep 0.2; done'], checkpoint: { everySeconds: 5 } })
      return async () => {
        trial.broken.writes = false
        await cancelAll(trial, [job])
      }
    },
  },
  {
    alerts: ['SwitchyardWorkLost', 'SwitchyardJobsFailByInfrastructure'],
    what: 'a sandbox dies in the middle of a step, of a job without another attempt',
    cause: async (trial) => {
      await trial.consumer()
      const job = await enqueue(trial, works)
      const worked = async () => {
        const { step, startedAtMs } = await job.status()
        return step !== null && startedAtMs !== null && Date.now() - startedAtMs > 3_000
      }
      await until('it to have worked for longer than the rule allows', worked, trial.patienceMs)
      const { provider, sandboxId } = await job.status()
      await trial.deployment.providers.find(({ name }) => name === provider)?.kill(sandboxId ?? '', { timeoutMs: 10_000 })
    },
  },
  {
    alerts: ['SwitchyardSandboxLeaked'],
    what: 'a sandbox that is nobody’s is not killed',
    cause: async (trial) => {
      await trial.consumer()
      trial.broken.kills = true
      const [provider] = trial.deployment.providers
      await provider?.create({ name: 'leaked-1', tags: sandboxTags({ deployment: 'test', runId: 'nobody', attempt: 1 }), image: undefined, resources: {}, lifetimeMs: 600_000, network: 'open', gitHosts: [] }, { timeoutMs: 30_000 })
      return async () => {
        trial.broken.kills = false
        await until('it to be reaped', async () => (await trial.prometheus.series('sum by (provider) (increase(switchyard_sandbox_reaped_total[20s])) > 0', 20)) > 0, trial.patienceMs)
      }
    },
  },
  {
    alerts: ['SwitchyardProviderBreakerOpen'],
    what: 'the providers are down',
    cause: async (trial) => {
      await trial.consumer()
      trial.broken.creates = true
      const jobs = await trial.deployment.queue.enqueueMany(Array.from({ length: 4 }, () => spec()))
      return async () => {
        trial.broken.creates = false
        await cancelAll(trial, jobs)
      }
    },
  },
  {
    alerts: ['SwitchyardRedisSlow'],
    what: 'Redis holds commands back',
    cause: async (trial) => {
      await trial.consumer()
      const slow = new AbortController()
      const held = (async () => {
        while (!slow.signal.aborted) {
          await trial.side.client('PAUSE', 900, 'ALL')
          // Answered when the pause is over.
          await trial.side.ping()
        }
      })()
      held.catch(() => undefined)
      return async () => {
        slow.abort()
        await held
      }
    },
  },
  {
    alerts: ['SwitchyardLoopStuck'],
    what: 'a provider’s listing never comes back',
    cause: async (trial) => {
      await trial.consumer()
      trial.broken.listing = true
    },
  },
  {
    alerts: ['SwitchyardProcessDown'],
    what: 'a process is frozen',
    cause: (trial) => {
      trial.serve.child.kill('SIGSTOP')
      return Promise.resolve(() => Promise.resolve(trial.serve.child.kill('SIGCONT')))
    },
  },
  {
    alerts: ['SwitchyardRedisUnreachable'],
    what: 'Redis does not answer',
    cause: (trial) => {
      trial.deployment.redis.freeze()
      return Promise.resolve(() => {
        trial.deployment.redis.thaw()
        return Promise.resolve()
      })
    },
  },
]
