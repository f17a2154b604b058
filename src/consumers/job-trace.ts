import type { Attempt, JobResult } from '../job/result.js'
import type { TraceCarrier } from '../job/trace-carrier.js'
import { carrierOf, context, contextOf, failSpan, spanContextOf, SpanKind, trace, tracer, type Attributes, type Context, type Span } from '../telemetry/tracing.js'

/** What a run's record says of its trace. */
export interface StoredTrace {
  /** The producer's span; null when it had none. */
  readonly parent: TraceCarrier | null
  /** The run's span of the consumer that had the job last. */
  readonly run: TraceCarrier | null
}

export interface TracedJob {
  readonly queue: string
  readonly runId: string
  readonly repository: string
  readonly tenant: string | undefined
  /** As the queue holds it. */
  readonly carrier: TraceCarrier | null
  /** Of a run that an earlier supervisor began; null at its beginning. */
  readonly stored: StoredTrace | null
  /** Whether the run begins now. */
  readonly begins: boolean
  /** Since when it waited, in milliseconds since 1970. */
  readonly waitedSinceMs: number
}

/**
 * A job's spans at one consumer, from the queue to its end or until it is handed over:
 *
 *   enqueue (producer) ─┬─ wait
 *                       └─ run ── attempt ─┬─ create, clone, step ── checkpoint, push, promote
 *                          ⇡ link          └─ …
 *                       └─ run of the next consumer: the same trace, a link to the one before
 *
 * Where nobody has set tracing up in this process no span is made; the producer's is passed on to the commands all the same.
 */
export class JobTrace {
  private over = false
  private attempt: { readonly number: number; readonly span: Span; readonly context: Context } | null = null

  private constructor(
    private readonly job: TracedJob,
    private readonly run: { readonly span: Span; readonly context: Context } | null,
    private readonly attemptsOf: () => readonly Attempt[],
  ) {}

  /** @param attemptsOf those of the run's record, as it is then. */
  static begin(job: TracedJob, attemptsOf: () => readonly Attempt[]): JobTrace {
    const with_ = tracer()
    if (with_ === null) return new JobTrace(job, null, attemptsOf)
    const parent = contextOf(job.carrier ?? job.stored?.parent ?? job.stored?.run ?? null)
    const attributes: Attributes = {
      'cicd.pipeline.name': job.queue,
      'cicd.pipeline.action.name': 'RUN',
      'cicd.pipeline.run.id': job.runId,
      'switchyard.repository': job.repository,
      ...(job.tenant === undefined ? {} : { 'switchyard.tenant': job.tenant }),
    }
    const links = job.stored?.run == null ? [] : [{ context: spanContextOf(job.stored.run), attributes: { 'switchyard.link': 'handed-over' } }]
    const span = with_.startSpan(`RUN ${job.queue}`, { kind: SpanKind.CONSUMER, attributes: { ...attributes, 'cicd.pipeline.run.state': 'executing' }, links }, parent)
    if (job.begins) {
      const waited = contextOf(job.carrier)
      with_.startSpan('wait', { attributes: { ...attributes, 'cicd.pipeline.run.state': 'pending' }, startTime: job.waitedSinceMs }, trace.getSpanContext(waited) === undefined ? trace.setSpan(waited, span) : waited).end()
    }
    return new JobTrace(job, { span, context: trace.setSpan(parent, span) }, attemptsOf)
  }

  /** A trace of no job. */
  static readonly none = new JobTrace({ queue: '', runId: '', repository: '', tenant: undefined, carrier: null, stored: null, begins: false, waitedSinceMs: 0 }, null, () => [])

  /** What the run's record is to say of it; undefined where there is nothing to say. */
  get stored(): StoredTrace | undefined {
    const parent = this.job.carrier ?? this.job.stored?.parent ?? null
    const run = this.run === null ? (this.job.stored?.run ?? null) : carrierOf(this.run.span.spanContext())
    return parent === null && run === null ? undefined : { parent, run }
  }

  /** Does the whole supervision: what is logged in it bears its ids. */
  async within<Result>(work: () => Promise<Result>): Promise<Result> {
    return this.run === null ? await work() : await context.with(this.run.context, work)
  }

  /**
   * Does a part of the job's course within a span of its own.
   * @param resultOf how it went, by OpenTelemetry's words: success, failure, timeout, error; whatever is no success is an error of the span.
   */
  async part<Result>(name: string, attributes: Attributes, work: () => Promise<Result>, resultOf: (result: Result) => string): Promise<Result> {
    const with_ = this.run === null ? null : tracer()
    if (with_ === null || this.run === null) return await work()
    const active = trace.getSpan(context.active())
    // Within another part, or below the attempt.
    const parent = active === undefined || active === this.run.span ? this.attemptContext() : context.active()
    const span = with_.startSpan(name, { attributes }, parent)
    try {
      const result = await context.with(trace.setSpan(parent, span), work)
      const said = resultOf(result)
      span.setAttribute('cicd.pipeline.task.run.result', said)
      if (said !== 'success' && said !== 'skip') failSpan(span, said)
      return result
    } catch (error) {
      span.setAttribute('cicd.pipeline.task.run.result', 'error')
      failSpan(span, error instanceof Error && 'kind' in error && typeof error.kind === 'string' ? error.kind : error instanceof Error ? error.name : typeof error)
      throw error
    } finally {
      span.end()
    }
  }

  /** For the commands of the job: what an agent's own spans join. */
  get environment(): Readonly<Record<string, string>> {
    const active = this.run === null ? undefined : (trace.getSpanContext(context.active()) ?? this.run.span.spanContext())
    const carrier = active === undefined ? (this.job.carrier ?? this.job.stored?.parent ?? null) : carrierOf(active)
    if (carrier === null) return {}
    return { TRACEPARENT: carrier.traceparent, ...(carrier.tracestate === undefined ? {} : { TRACESTATE: carrier.tracestate }) }
  }

  /** The job has ended, or (null) goes on at another consumer. Again is fine. */
  end(result: JobResult | null, resultWord?: string): void {
    this.endAttempt()
    if (this.run === null || this.over) return
    this.over = true
    const { span } = this.run
    if (result === null) span.setAttribute('switchyard.handed_over', true)
    else {
      span.setAttribute('cicd.pipeline.result', resultWord ?? result.status)
      if (result.status === 'failed') failSpan(span, result.error?.kind ?? 'unknown', result.error?.message)
    }
    span.end()
  }

  private attemptContext(): Context {
    const number = this.attemptsOf().length
    if (this.attempt?.number === number) return this.attempt.context
    this.endAttempt()
    const parent = this.run?.context ?? context.active()
    const provider = this.attemptsOf().at(-1)?.provider
    const span = tracer()?.startSpan('attempt', { attributes: { 'switchyard.attempt': number, ...(provider === undefined ? {} : { 'switchyard.provider': provider }) } }, parent)
    if (span === undefined) return parent
    this.attempt = { number, span, context: trace.setSpan(parent, span) }
    return this.attempt.context
  }

  private endAttempt(): void {
    if (this.attempt === null) return
    const { span, number } = this.attempt
    this.attempt = null
    const ended = this.attemptsOf()[number - 1]
    if (ended?.sandboxId != null) span.setAttribute('cicd.worker.id', ended.sandboxId)
    if (ended !== undefined) span.setAttribute('switchyard.outcome', ended.outcome)
    if (ended?.outcome === 'lost' || ended?.outcome === 'unavailable' || ended?.outcome === 'failed') failSpan(span, ended.error?.kind ?? ended.outcome, ended.error?.message)
    span.end()
  }
}
