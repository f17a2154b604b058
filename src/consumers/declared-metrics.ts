import { jobErrorKinds } from '../job/errors.js'
import type { Metrics } from '../telemetry/metrics.js'

/** The series of faults and ends that alerts and dashboards ask for: there from a consumer's start, so that the first fault is an increase. */
export function declareMetrics(metrics: Metrics, queue: string, providers: readonly string[]): void {
  if (!metrics.on) return
  for (const kind of jobErrorKinds) metrics.declare('cicd.pipeline.run.errors', [queue, kind])
  for (const status of ['succeeded', 'failed', 'cancelled']) metrics.declare('switchyard.job.ends', ['', status])
  for (const outcome of ['ok', 'error']) {
    metrics.declare('switchyard.push.duration', [outcome])
    metrics.declare('switchyard.promotion.duration', [outcome])
  }
  for (const direction of ['given', 'taken']) metrics.declare('switchyard.job.handovers', [direction])
  for (const provider of providers) {
    for (const why of ['lost', 'unavailable', 'moved']) metrics.declare('switchyard.job.moves', [provider, why])
    metrics.declare('switchyard.job.work.lost', [provider])
    for (const name of ['switchyard.sandbox.create.duration', 'switchyard.clone.duration'] as const) for (const outcome of ['ok', 'error']) metrics.declare(name, [provider, outcome])
    for (const outcome of ['saved', 'error']) metrics.declare('switchyard.checkpoint.duration', [provider, outcome])
    metrics.declare('switchyard.checkpoint.size', [provider])
    metrics.declare('switchyard.sandbox.reaped', [provider])
    metrics.declare('switchyard.sandbox.reap.failures', [provider])
  }
}
