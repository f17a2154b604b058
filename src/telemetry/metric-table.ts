/**
 * Every metric, in one place: what `/metrics` and OTLP export and docs/metrics.md lists is made from this table.
 *
 * Names are OpenTelemetry's (`cicd.*` by its semantic conventions, the rest `switchyard.*`); `prometheusName` makes Prometheus' of them. A label never
 * holds an id of a job, a sandbox or a consumer. `scope` says who knows it: `process` for what this process has seen, which is summed over
 * processes; `deployment` for what is the same whichever process is asked, of which the greatest is taken.
 */
export interface MetricEntry {
  readonly type: 'counter' | 'gauge' | 'histogram'
  /** `s`, `By`, or what is counted, in braces. */
  readonly unit: 's' | 'By' | `{${string}}`
  readonly help: string
  readonly labels: readonly string[]
  readonly scope: 'process' | 'deployment'
  /** Upper bounds of a histogram. */
  readonly buckets?: readonly number[]
}

/** From a tenth of a second to hours: what jobs and their parts take. */
const long = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200]
/** From a millisecond to half a minute: what calls take. */
const short = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

/** From a kibibyte to a gibibyte: what is carried to the git host. */
const sizes = [0, 2 ** 10, 2 ** 13, 2 ** 16, 2 ** 18, 2 ** 20, 2 ** 22, 2 ** 24, 2 ** 26, 2 ** 28, 2 ** 30]

const pipeline = 'cicd.pipeline.name'

export const metricTable = {
  'cicd.pipeline.run.duration': { type: 'histogram', unit: 's', labels: [pipeline, 'cicd.pipeline.run.state', 'cicd.pipeline.result'], scope: 'process', buckets: long, help: 'How long jobs were in each state: pending (from the queue to a consumer), executing (from there until its work is done and pushed), finalizing (artifacts, the sandbox’s kill, the result). The result is that of the job, empty while it is pending.' },
  'cicd.pipeline.run.active': { type: 'gauge', unit: '{run}', labels: [pipeline, 'cicd.pipeline.run.state'], scope: 'process', help: 'Jobs that this consumer has in hand: executing, finalizing.' },
  'cicd.pipeline.run.errors': { type: 'counter', unit: '{error}', labels: [pipeline, 'error.type'], scope: 'process', help: 'Jobs that ended with an error, by its kind.' },
  'cicd.system.errors': { type: 'counter', unit: '{error}', labels: ['cicd.system.component', 'error.type'], scope: 'process', help: 'Errors of Switchyard’s own parts that were caught and tried again.' },
  'cicd.worker.count': { type: 'gauge', unit: '{worker}', labels: [pipeline, 'cicd.worker.state'], scope: 'deployment', help: 'Live consumers of the queue: available, or busy with as many jobs as they may have.' },

  'switchyard.queue.jobs': { type: 'gauge', unit: '{job}', labels: ['queue', 'state', 'reason'], scope: 'deployment', help: 'Jobs that the queue holds, by BullMQ’s state; of those that wait, why: paused, no-consumer, capacity (no provider has room) or turn (about to be taken, or kept by a tenant’s cap or a key of concurrency). Empty for the other states.' },
  'switchyard.queue.wanted': { type: 'gauge', unit: '{job}', labels: ['queue'], scope: 'deployment', help: 'Jobs that consumers should have room for: those in hand and those that wait, as far as the providers’ limits in force go. What to scale consumers by: it does not grow with what waits for a full provider, or in a paused queue.' },
  'switchyard.queue.oldest.age': { type: 'gauge', unit: 's', labels: ['queue', 'state', 'reason'], scope: 'deployment', help: 'How long ago the oldest waiting job was enqueued, and the active one that is in hand for longest; 0 when there is none.' },
  'switchyard.job.starts': { type: 'counter', unit: '{job}', labels: ['tenant'], scope: 'process', help: 'Jobs that a consumer has begun.' },
  'switchyard.job.ends': { type: 'counter', unit: '{job}', labels: ['tenant', 'status'], scope: 'process', help: 'Jobs that this process has ended: succeeded, failed, cancelled; consumers most of them, the API and the board those that they cancel while they wait.' },
  'switchyard.job.total.duration': { type: 'histogram', unit: 's', labels: ['queue', 'status'], scope: 'process', buckets: long, help: 'From the queue to the result.' },
  'switchyard.job.moves': { type: 'counter', unit: '{move}', labels: ['provider', 'why'], scope: 'process', help: 'Jobs that left a provider: lost (its sandbox), unavailable (no sandbox came to be), moved (its lifetime ends).' },
  'switchyard.job.work.lost': { type: 'counter', unit: 's', labels: ['provider'], scope: 'process', help: 'Work that lost sandboxes took with them: from the last checkpoint, or the first command, to the loss.' },
  'switchyard.job.handovers': { type: 'counter', unit: '{handover}', labels: ['direction'], scope: 'process', help: 'Running jobs that this consumer gave to others (given: it stops, or could not go on) and got from them (taken), those of killed ones too.' },
  'switchyard.sandbox.create.duration': { type: 'histogram', unit: 's', labels: ['provider', 'outcome'], scope: 'process', buckets: short, help: 'Creates of sandboxes: ok or error.' },
  'switchyard.clone.duration': { type: 'histogram', unit: 's', labels: ['provider', 'outcome'], scope: 'process', buckets: short, help: 'Making a sandbox ready: the runner, and the repository’s base or last checkpoint.' },
  'switchyard.step.duration': { type: 'histogram', unit: 's', labels: ['kind', 'outcome'], scope: 'process', buckets: long, help: 'Commands, by kind (setup, step): ok (exit code 0), failed, timeout, moved, error (their sandbox or provider).' },
  'switchyard.checkpoint.duration': { type: 'histogram', unit: 's', labels: ['provider', 'outcome'], scope: 'process', buckets: short, help: 'Checkpoints: saved, unchanged (there was nothing new), error.' },
  'switchyard.checkpoint.size': { type: 'histogram', unit: 'By', labels: ['provider'], scope: 'process', buckets: sizes, help: 'What saved checkpoints hold beyond the one before, as git packs it.' },
  'switchyard.push.duration': { type: 'histogram', unit: 's', labels: ['outcome'], scope: 'process', buckets: short, help: 'The final commit and its push to the job’s branch.' },
  'switchyard.promotion.duration': { type: 'histogram', unit: 's', labels: ['outcome'], scope: 'process', buckets: short, help: 'Promotions, with their pull requests.' },
  'switchyard.errors': { type: 'counter', unit: '{error}', labels: ['owner', 'kind', 'provider', 'reaction'], scope: 'process', help: 'Errors while jobs were supervised: whose they were (job, sandbox, provider, git host, consumer, deployment), their kind, where, and what was done (retry, wait, move, fail, leave).' },

  'switchyard.provider.running': { type: 'gauge', unit: '{sandbox}', labels: ['provider'], scope: 'deployment', help: 'Places that are taken at a provider.' },
  'switchyard.provider.limit': { type: 'gauge', unit: '{sandbox}', labels: ['provider'], scope: 'deployment', help: 'The limit in force: as configured, less what others use and what the provider refused.' },
  'switchyard.provider.limit.configured': { type: 'gauge', unit: '{sandbox}', labels: ['provider'], scope: 'deployment', help: 'The limit as configured.' },
  'switchyard.provider.waiting': { type: 'gauge', unit: '{job}', labels: ['provider'], scope: 'deployment', help: 'Jobs in consumers’ hands that wait for a place there.' },
  'switchyard.provider.foreign': { type: 'gauge', unit: '{sandbox}', labels: ['provider'], scope: 'deployment', help: 'Sandboxes of others in the same account.' },
  'switchyard.provider.breaker.open': { type: 'gauge', unit: '{breaker}', labels: ['provider'], scope: 'deployment', help: '1 while the provider’s breaker is open or tried, 0 while it is closed.' },
  'switchyard.sandbox.reaped': { type: 'counter', unit: '{sandbox}', labels: ['provider'], scope: 'process', help: 'Forgotten sandboxes that were killed.' },
  'switchyard.sandbox.reap.failures': { type: 'counter', unit: '{kill}', labels: ['provider'], scope: 'process', help: 'Kills of forgotten sandboxes that failed.' },
  'switchyard.sandbox.leaked': { type: 'gauge', unit: '{sandbox}', labels: ['provider'], scope: 'deployment', help: 'Sandboxes without an owner that could not be killed at the last round.' },
  'switchyard.sandbox.time': { type: 'counter', unit: 's', labels: ['tenant'], scope: 'process', help: 'Time of sandboxes that ended jobs have used.' },
  'switchyard.cost': { type: 'counter', unit: '{currency}', labels: ['tenant', 'provider', 'currency'], scope: 'process', help: 'What ended jobs have cost at providers with a price.' },

  'switchyard.events.added': { type: 'counter', unit: '{event}', labels: [], scope: 'deployment', help: 'Events that were written.' },
  'switchyard.events.unread': { type: 'gauge', unit: '{event}', labels: ['group'], scope: 'deployment', help: 'Events that are kept and nobody of the group has read.' },
  'switchyard.events.pending': { type: 'gauge', unit: '{event}', labels: ['group'], scope: 'deployment', help: 'Events that were read and are not done.' },
  'switchyard.events.lag': { type: 'gauge', unit: 's', labels: ['group'], scope: 'deployment', help: 'How long ago the oldest event was written that the group has not read; 0 when it has read all.' },
  'switchyard.events.trimmed.unread': { type: 'counter', unit: '{event}', labels: ['group'], scope: 'deployment', help: 'Events that were trimmed before the group had handled them.' },
  'switchyard.events.dead': { type: 'gauge', unit: '{event}', labels: ['group'], scope: 'deployment', help: 'Dead letters that wait to be given back.' },
  'switchyard.webhook.duration': { type: 'histogram', unit: 's', labels: ['outcome'], scope: 'process', buckets: short, help: 'Attempts to deliver events to webhooks: ok, error.' },
  'switchyard.webhook.lag': { type: 'histogram', unit: 's', labels: [], scope: 'process', buckets: long, help: 'From an event to its delivery.' },

  'switchyard.redis.command.duration': { type: 'histogram', unit: 's', labels: ['command'], scope: 'process', buckets: short, help: 'Redis commands and scripts (script:NAME), from sending to the answer; without reads that wait for something to come.' },
  'switchyard.redis.errors': { type: 'counter', unit: '{error}', labels: ['command'], scope: 'process', help: 'Redis commands and scripts that failed.' },
  'switchyard.redis.up': { type: 'gauge', unit: '{redis}', labels: [], scope: 'process', help: '1 when Redis answered this scrape. At 0 what is the deployment’s is left out.' },
  'switchyard.loops.stuck': { type: 'gauge', unit: '{loop}', labels: [], scope: 'process', help: 'Loops of this consumer that make no progress; see /healthz.' },
} as const satisfies Record<string, MetricEntry>

export type MetricName = keyof typeof metricTable
type OfType<Type extends MetricEntry['type']> = { [Name in MetricName]: (typeof metricTable)[Name]['type'] extends Type ? Name : never }[MetricName]
export type CounterName = OfType<'counter'>
export type GaugeName = OfType<'gauge'>
export type HistogramName = OfType<'histogram'>
/** The values of a metric's labels, in the table's order. */
export type LabelValues<Name extends MetricName> = ValuesOf<(typeof metricTable)[Name]['labels']>
type ValuesOf<Labels extends readonly string[]> = { readonly [Index in keyof Labels]: string }

/** As OpenTelemetry translates names for Prometheus: dots to underscores, the unit and `_total` behind it. */
export function prometheusName(name: string, { type, unit }: Pick<MetricEntry, 'type' | 'unit'>): string {
  const suffix = unit === 's' ? '_seconds' : unit === 'By' ? '_bytes' : ''
  return `${name.replaceAll('.', '_')}${suffix}${type === 'counter' ? '_total' : ''}`
}

export function prometheusLabel(label: string): string {
  return label.replaceAll('.', '_')
}
