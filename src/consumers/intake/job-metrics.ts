import type { JobResult } from '../../job/result.js'
import type { JobSpec } from '../../job/spec.js'
import type { ConsumerContext } from '../consumer-context.js'

type Shared = Pick<ConsumerContext, 'metrics' | 'queue' | 'now'>

/** A job has begun that waited since then, in milliseconds since 1970. */
export function measureBegin({ metrics, queue, now }: Shared, { tenant }: Pick<JobSpec, 'tenant'>, waitsSinceMs: number): void {
  metrics.add('switchyard.job.starts', [tenant ?? ''])
  metrics.observe('cicd.pipeline.run.duration', [queue, 'pending', ''], (now() - waitsSinceMs) / 1000)
}

/**
 * A job has ended under this consumer.
 * @param sinceMs when it came into the queue, and
 * @param closingSinceMs when only its end was left, both in milliseconds since 1970; null for one that was ended as it was read.
 */
export function measureEnd({ metrics, queue, now }: Shared, result: JobResult, sinceMs: number, closingSinceMs: number | null): void {
  if (!metrics.on) return
  const { status, error, attempts, usage } = result
  const tenant = result.tenant ?? ''
  const beganAtMs = Date.parse(attempts[0]?.startedAt ?? '')
  metrics.add('switchyard.job.ends', [tenant, status])
  const atMs = now()
  const word = pipelineResult(result)
  metrics.observe('switchyard.job.total.duration', [queue, status], (atMs - sinceMs) / 1000)
  if (!Number.isNaN(beganAtMs)) metrics.observe('cicd.pipeline.run.duration', [queue, 'executing', word], ((closingSinceMs ?? atMs) - beganAtMs) / 1000)
  if (closingSinceMs !== null) metrics.observe('cicd.pipeline.run.duration', [queue, 'finalizing', word], (atMs - closingSinceMs) / 1000)
  if (error !== null && status === 'failed') metrics.add('cicd.pipeline.run.errors', [queue, error.kind])
  metrics.add('switchyard.sandbox.time', [tenant], usage.sandboxSeconds)
  for (const { provider, cost } of attempts) if (cost !== undefined) metrics.add('switchyard.cost', [tenant, provider, cost.currency], cost.micros / 1e6)
}

/** OpenTelemetry's word for how a job ended. */
export function pipelineResult({ status, error }: Pick<JobResult, 'status' | 'error'>): string {
  if (status === 'succeeded') return 'success'
  if (status === 'cancelled') return 'cancellation'
  if (error?.kind === 'timeout') return 'timeout'
  return error?.kind === 'step-failed' ? 'failure' : 'error'
}
