import { context, createTraceState, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace, type Attributes, type Context, type Link, type Span, type SpanContext, type Tracer, type TracerProvider } from '@opentelemetry/api'
import type { TraceCarrier } from '../job/trace-carrier.js'

export { context, SpanKind, SpanStatusCode, trace, type Attributes, type Context, type Link, type Span, type SpanContext }

const name = 'switchyard'

/** The tracer of whoever has set tracing up in this process; null when nobody has: then no span is made, not even one that is thrown away. */
export function tracer(): Tracer | null {
  // What the API gives before anybody has is a stand-in, which says whether there is a real one behind it.
  const provider: TracerProvider & { readonly getDelegateTracer?: (name: string) => Tracer | undefined } = trace.getTracerProvider()
  if (provider.getDelegateTracer !== undefined && provider.getDelegateTracer(name) === undefined) return null
  return provider.getTracer(name)
}

/** What others continue a span by. */
export function carrierOf({ traceId, spanId, traceFlags, traceState }: SpanContext): TraceCarrier {
  const tracestate = traceState?.serialize()
  return { traceparent: `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`, ...(tracestate === undefined || tracestate === '' ? {} : { tracestate }) }
}

/** The span of a carrier that was parsed, which is another process's. */
export function spanContextOf({ traceparent, tracestate }: TraceCarrier): SpanContext {
  const [, traceId = '', spanId = '', flags = '00'] = traceparent.split('-')
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true, ...(tracestate === undefined ? {} : { traceState: createTraceState(tracestate) }) }
}

/** A context in which a carrier's span is the parent; with none, one without. */
export function contextOf(carrier: TraceCarrier | null): Context {
  return carrier === null ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, spanContextOf(carrier))
}

/** What log lines say of the span that they were written in; nothing without one. */
export function traceFields(): { trace_id?: string; span_id?: string } {
  const span = trace.getSpanContext(context.active())
  return span === undefined ? {} : { trace_id: span.traceId, span_id: span.spanId }
}

/** The span failed. @param what by whom and why, without secrets. */
export function failSpan(span: Span, type: string, message?: string): void {
  span.setAttribute('error.type', type)
  span.setStatus({ code: SpanStatusCode.ERROR, ...(message === undefined ? {} : { message }) })
}

/**
 * Adds jobs within a producer's span, of which they get the carrier. Without tracing in this process they get what was given.
 * @param given of the request that they come from; left out: the active span, where there is one.
 */
export async function withProducerSpan<Result>(queue: string, jobIds: readonly string[], given: TraceCarrier | null, work: (carrier: TraceCarrier | null) => Promise<Result>): Promise<Result> {
  const with_ = tracer()
  if (with_ === null) {
    const active = given === null ? trace.getSpanContext(context.active()) : undefined
    return await work(given ?? (active === undefined ? null : carrierOf(active)))
  }
  const parent = given === null ? context.active() : contextOf(given)
  const [only] = jobIds
  const attributes: Attributes = {
    'messaging.system.name': 'bullmq',
    'messaging.operation.name': 'enqueue',
    'messaging.operation.type': 'send',
    'messaging.destination.name': queue,
    'cicd.pipeline.name': queue,
    ...(jobIds.length === 1 && only !== undefined ? { 'messaging.message.id': only, 'cicd.pipeline.run.id': only } : { 'messaging.batch.message_count': jobIds.length }),
  }
  const span = with_.startSpan(`enqueue ${queue}`, { kind: SpanKind.PRODUCER, attributes }, parent)
  try {
    return await context.with(trace.setSpan(parent, span), () => work(carrierOf(span.spanContext())))
  } catch (error) {
    failSpan(span, error instanceof Error ? error.name : typeof error)
    throw error
  } finally {
    span.end()
  }
}
