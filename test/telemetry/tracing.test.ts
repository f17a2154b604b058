import { context, trace } from '@opentelemetry/api'
import { InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import * as sdk from '@opentelemetry/sdk-metrics'
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node'
import { afterEach, expect, it } from 'vitest'
import { JobTrace } from '../../src/consumers/job-trace.js'
import { parseCarrier } from '../../src/job/trace-carrier.js'
import type { Attempt } from '../../src/job/result.js'
import { AgentQueue } from '../../src/producers/index.js'
import { metricData } from '../../src/telemetry/otlp-metrics.js'
import { otlpSettings } from '../../src/telemetry/otlp-settings.js'
import { createLogger } from '../../src/cli/logger.js'
import { traceFields, tracer } from '../../src/telemetry/tracing.js'
import fc from '../seeded-fast-check.js'
import { after, useRedis } from '../store/fixture.js'

const redis = useRedis()
const good = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

function traced() {
  const exporter = new InMemorySpanExporter()
  const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
  provider.register()
  return exporter
}
afterEach(() => {
  trace.disable()
  context.disable()
})

it('takes a traceparent by the letter only, whoever wrote it', () => {
  expect(parseCarrier({ traceparent: good, tracestate: 'a=1,b@c=2' })).toEqual({ traceparent: good, tracestate: 'a=1,b@c=2' })
  for (const wrong of [undefined, null, 7, '', good.toUpperCase(), `${good} `, `${good}\n`, `01${good.slice(2)}`, good.replace(/[^-]+-01$/, '0000000000000000-01'), good.replace(/(?<=^00-)[^-]+/, '0'.repeat(32)), `${good}-x`, [good], { toString: () => good }]) {
    expect(parseCarrier({ traceparent: wrong })).toBeNull()
  }
  // A wrong state alone is left out: the rest stands.
  for (const wrong of ['a', 'A=1', 'a=1\nLD_PRELOAD=x', 'a=\u0000', 'a='.padEnd(600, 'x'), 'ü=1', 5, Array.from({ length: 40 }, (_, index) => `k${index}=1`).join(',')]) expect(parseCarrier({ traceparent: good, tracestate: wrong })).toEqual({ traceparent: good })
  fc.assert(
    fc.property(fc.anything(), fc.string(), (traceparent, tracestate) => {
      const carrier = parseCarrier({ traceparent, tracestate })
      if (carrier !== null) expect(JSON.stringify(carrier)).toMatch(/^[\x20-\x7e]*$/)
    }),
  )
})

async function dataOf(queue: AgentQueue, jobId: string) {
  const data = await redis.client.hget(redis.keys.job(jobId), 'data')
  await queue.close()
  return JSON.parse(data ?? '{}') as { trace?: { traceparent: string } }
}

it('gives a job the span of its producer, and without tracing nothing, or what its request brought', async () => {
  const open = () => {
    const queue = new AgentQueue({ redis: redis.config, prefix: redis.keys.prefix })
    after(() => queue.close())
    return queue
  }
  const job = { repository: 'acme/web', steps: ['true'] }
  expect(tracer()).toBeNull()
  let queue = open()
  expect((await dataOf(queue, (await queue.enqueue(job)).jobId)).trace).toBeUndefined()
  queue = open()
  expect((await dataOf(queue, (await queue.enqueue(job, { trace: { traceparent: good } })).jobId)).trace).toEqual({ traceparent: good })
  queue = open()
  expect((await dataOf(queue, (await queue.enqueue(job, { trace: { traceparent: 'x' } })).jobId)).trace).toBeUndefined()

  const exporter = traced()
  queue = open()
  const { jobId } = await trace.getTracer('app').startActiveSpan('request', async (span) => {
    try {
      return await queue.enqueue(job)
    } finally {
      span.end()
    }
  })
  const [enqueue, request] = exporter.getFinishedSpans()
  expect(enqueue).toMatchObject({ name: 'enqueue agents', kind: 3, attributes: { 'cicd.pipeline.run.id': jobId, 'messaging.destination.name': 'agents' } })
  expect(enqueue?.parentSpanContext?.spanId).toBe(request?.spanContext().spanId)
  const { traceId, spanId } = enqueue!.spanContext()
  expect((await dataOf(queue, jobId)).trace).toEqual({ traceparent: `00-${traceId}-${spanId}-01` })
})

const job = { queue: 'agents', runId: 'j', repository: 'acme/web', tenant: 'acme', carrier: { traceparent: good }, stored: null, begins: true, waitedSinceMs: 1_000 }
const attempt = (fields: Partial<Attempt> = {}): Attempt => ({ provider: 'a', sandboxId: 's-1', startedAt: '2026-01-01T00:00:00.000Z', endedAt: null, outcome: 'running', error: null, ...fields })

it('makes no span without tracing, and passes the producer’s on to the commands', async () => {
  const silent = JobTrace.begin(job, () => [])
  expect(await silent.within(() => silent.part('step', {}, () => Promise.resolve(silent.environment), () => 'success'))).toEqual({ TRACEPARENT: good })
  expect(silent.stored).toEqual({ parent: { traceparent: good }, run: null })
  silent.end(null)
  expect(JobTrace.begin({ ...job, carrier: null }, () => []).environment).toEqual({})
  expect(JobTrace.none.stored).toBeUndefined()
  expect(traceFields()).toEqual({})
})

it('makes one trace of a job that is handed over and loses a sandbox, with what failed as errors', async () => {
  const exporter = traced()
  let attempts = [attempt()]
  const first = JobTrace.begin(job, () => attempts)
  const inStep = await first.within(() => first.part('step', { 'cicd.pipeline.task.name': 'agent' }, async () => {
    await first.part('checkpoint', {}, () => Promise.resolve(), () => 'success')
    return { environment: first.environment, log: traceFields() }
  }, () => 'success'))
  const stored = first.stored!
  first.end(null)
  const second = JobTrace.begin({ ...job, carrier: null, stored, begins: false }, () => attempts)
  await expect(second.within(() => second.part('step', {}, () => Promise.reject(new TypeError('gone')), () => 'success'))).rejects.toThrow('gone')
  attempts = [attempt({ outcome: 'lost', error: { kind: 'sandbox-lost', message: 'killed' } }), attempt({ provider: 'b' })]
  await second.within(() => second.part('create', {}, () => Promise.resolve(), () => 'success'))
  attempts = [attempts[0]!, attempt({ provider: 'b', outcome: 'failed', error: { kind: 'step-failed', message: 'agent exited with code 3' } })]
  const result = { status: 'failed', error: { kind: 'step-failed', message: 'agent exited with code 3' } } as Parameters<JobTrace['end']>[0]
  second.end(result, 'failure')
  second.end(null)

  const spans = exporter.getFinishedSpans()
  expect(new Set(spans.map((span) => span.spanContext().traceId))).toEqual(new Set(['0af7651916cd43dd8448eb211c80319c']))
  const named = (name: string) => spans.filter((span) => span.name === name)
  expect(spans.map(({ name }) => name).sort()).toEqual(['RUN agents', 'RUN agents', 'attempt', 'attempt', 'attempt', 'checkpoint', 'create', 'step', 'step', 'wait'])
  const [run, next] = named('RUN agents')
  expect(run).toMatchObject({ kind: 4, status: { code: 0 }, attributes: { 'switchyard.handed_over': true, 'cicd.pipeline.run.id': 'j' }, parentSpanContext: { spanId: 'b7ad6b7169203331' } })
  expect(next).toMatchObject({ status: { code: 2, message: 'agent exited with code 3' }, attributes: { 'cicd.pipeline.result': 'failure', 'error.type': 'step-failed' }, parentSpanContext: { spanId: 'b7ad6b7169203331' } })
  expect(next?.links.map((link) => link.context.spanId)).toEqual([run?.spanContext().spanId])
  const [step, failed] = named('step')
  expect(inStep).toEqual({ environment: { TRACEPARENT: `00-${step!.spanContext().traceId}-${step!.spanContext().spanId}-01` }, log: { trace_id: step!.spanContext().traceId, span_id: step!.spanContext().spanId } })
  expect(named('checkpoint')[0]?.parentSpanContext?.spanId).toBe(step?.spanContext().spanId)
  expect(failed).toMatchObject({ status: { code: 2 }, attributes: { 'error.type': 'TypeError', 'cicd.pipeline.task.run.result': 'error' } })
  const outcomes = named('attempt').map((span) => [span.attributes['switchyard.provider'], span.attributes['switchyard.outcome'], span.status.code])
  expect(outcomes).toEqual([['a', 'running', 0], ['a', 'lost', 2], ['b', 'failed', 2]])
})

it('names in each line of the log the span that it was written in', () => {
  traced()
  const lines: Record<string, unknown>[] = []
  const log = createLogger('info', { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) })
  log.info('before')
  const { traceId, spanId } = trace.getTracer('app').startActiveSpan('step', (span) => {
    log.warn({ jobId: 'j' }, 'within')
    span.end()
    return span.spanContext()
  })
  expect(lines).toMatchObject([{ msg: 'before' }, { msg: 'within', jobId: 'j', trace_id: traceId, span_id: spanId }])
  expect(lines[0]).not.toHaveProperty('trace_id')
})

it('goes by OpenTelemetry’s variables before the configuration', () => {
  const config = { endpoint: 'http://c:4318/', traces: true, metrics: false, everyMs: 5_000 }
  const of = (environment: Record<string, string>, from: typeof config | null = config) => otlpSettings(from ?? undefined, environment, 's')
  expect(of({}, null)).toMatchObject({ traces: null, metrics: null })
  expect(of({})).toMatchObject({ traces: 'http://c:4318/v1/traces', metrics: null, everyMs: 5_000, serviceName: 's' })
  expect(of({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://e', OTEL_SERVICE_NAME: 'n', OTEL_METRIC_EXPORT_INTERVAL: '1000', OTEL_RESOURCE_ATTRIBUTES: 'a=b%20c,bad,x=%zz' })).toEqual({ traces: 'http://e/v1/traces', metrics: 'http://e/v1/metrics', everyMs: 1_000, serviceName: 'n', attributes: { a: 'b c' } })
  expect(of({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://t/x' })).toMatchObject({ traces: 'http://t/x' })
  expect(of({ OTEL_TRACES_EXPORTER: 'none' })).toMatchObject({ traces: null })
  expect(of({ OTEL_SDK_DISABLED: 'TRUE' })).toMatchObject({ traces: null, metrics: null })
})

it('says by OTLP what Prometheus is told: buckets between bounds, and the table’s names', () => {
  const times = { startTime: [0, 0] as [number, number], endTime: [1, 0] as [number, number] }
  const name = 'cicd_pipeline_run_duration_seconds'
  const labels = { cicd_pipeline_name: 'agents', cicd_pipeline_run_state: 'pending', cicd_pipeline_result: '' }
  const bucket = (le: string | number, value: number) => ({ value, labels: { ...labels, le }, metricName: `${name}_bucket` })
  const data = metricData(name, 'h', 'histogram', [bucket(1, 2), bucket(5, 3), bucket('+Inf', 7), { value: 40, labels, metricName: `${name}_sum` }, { value: 7, labels, metricName: `${name}_count` }], times, sdk)
  expect(data).toMatchObject({
    descriptor: { name: 'cicd.pipeline.run.duration', unit: 's' },
    dataPoints: [{ attributes: { 'cicd.pipeline.name': 'agents', 'cicd.pipeline.run.state': 'pending' }, value: { buckets: { boundaries: [1, 5], counts: [2, 1, 4] }, sum: 40, count: 7 } }],
  })
  expect(metricData('switchyard_errors_total', 'h', 'counter', [{ value: 2, labels: { owner: 'job' } }], times, sdk)).toMatchObject({ descriptor: { name: 'switchyard.errors' }, isMonotonic: true, dataPoints: [{ value: 2 }] })
  expect(metricData('switchyard_redis_up', 'h', 'gauge', [], times, sdk)).toBeNull()
})
