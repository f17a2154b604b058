import type { HistogramName, LabelValues } from '../telemetry/metric-table.js'
import type { Attributes } from '../telemetry/tracing.js'
import type { RunContext } from './run-context.js'

/** A part of a job's course that takes time. */
export interface Part<Name extends HistogramName, Result> {
  readonly metric: Name
  readonly labels: (outcome: string) => LabelValues<Name>
  /** Its span, and what that says. */
  readonly span: string
  readonly attributes?: Attributes | undefined
  /** What came of it, as a label. */
  readonly outcomeOf: (result: Result) => string
  /** How long it took, in seconds, where this consumer did not see all of it. */
  readonly secondsOf?: ((result: Result) => number | undefined) | undefined
}

/** Does a part of a job's course and measures it. One that an interruption or a hand-over breaks off is none that failed: its time is not told. */
export async function measured<Name extends HistogramName, Result>(ctx: RunContext, part: Part<Name, Result>, work: () => Promise<Result>): Promise<Result> {
  const { metrics } = ctx.shared
  const began = performance.now()
  const seconds = () => (performance.now() - began) / 1000
  try {
    const result = await ctx.trace.part(part.span, part.attributes ?? {}, work, (made) => taskResult(part.outcomeOf(made)))
    metrics.observe(part.metric, part.labels(part.outcomeOf(result)), part.secondsOf?.(result) ?? seconds())
    return result
  } catch (error) {
    if (!ctx.work.aborted && !ctx.leave.aborted) metrics.observe(part.metric, part.labels('error'), seconds())
    throw error
  }
}

/** OpenTelemetry's word for an outcome. */
function taskResult(outcome: string): string {
  if (outcome === 'failed') return 'failure'
  if (outcome === 'unchanged') return 'skip'
  return outcome === 'timeout' || outcome === 'error' ? outcome : 'success'
}
