import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { context, trace } from '@opentelemetry/api'
import { afterEach, expect, it } from 'vitest'
import { z } from 'zod'
import { startOpenTelemetry } from '../../src/telemetry/open-telemetry.js'
import { otlpSettings } from '../../src/telemetry/otlp-settings.js'
import { PrometheusMetrics } from '../../src/telemetry/prometheus-metrics.js'
import { after } from '../undo.js'

afterEach(() => {
  trace.disable()
  context.disable()
})

const attributes = z.array(z.object({ key: z.string(), value: z.record(z.string(), z.unknown()) })).transform((list) => Object.fromEntries(list.map(({ key, value }) => [key, Object.values(value)[0]])))
const resource = z.object({ attributes })
const point = z.object({ attributes, asDouble: z.number().optional(), count: z.coerce.number().optional(), sum: z.number().optional(), bucketCounts: z.array(z.coerce.number()).optional(), explicitBounds: z.array(z.number()).optional() })
const points = z.object({ dataPoints: z.array(point), aggregationTemporality: z.number().optional(), isMonotonic: z.boolean().optional() })
const metricsRequest = z.object({ resourceMetrics: z.array(z.object({ resource, scopeMetrics: z.array(z.object({ metrics: z.array(z.object({ name: z.string(), unit: z.string(), sum: points.optional(), gauge: points.optional(), histogram: points.optional() })) })) })) })
const tracesRequest = z.object({ resourceSpans: z.array(z.object({ resource, scopeSpans: z.array(z.object({ scope: z.object({ name: z.string() }), spans: z.array(z.object({ name: z.string(), traceId: z.string().regex(/^[0-9a-f]{32}$/), status: z.object({ code: z.number() }) })) })) })) })

/** A collector that keeps what it is sent. */
async function collector() {
  const received: { path: string; body: unknown }[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      received.push({ path: request.url ?? '', body: JSON.parse(Buffer.concat(chunks).toString()) })
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  after(() => new Promise((resolve) => server.close(resolve)))
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, received }
}

it('sends the same numbers as Prometheus gets, and spans, to a collector by OTLP', async () => {
  const { url, received } = await collector()
  const metrics = new PrometheusMetrics({ figures: () => Promise.resolve(new Map([['switchyard.provider.running', [[['e2b'], 3]]]])) })
  const settings = otlpSettings({ endpoint: url, traces: true, metrics: true, everyMs: 3_600_000 }, { OTEL_RESOURCE_ATTRIBUTES: 'k8s.pod.name=c-1' }, 'switchyard-consumer')
  const sdk = await startOpenTelemetry(settings, { version: '1.2.3', metrics, onError: (error) => expect(error).toBeUndefined() })
  metrics.add('switchyard.job.ends', ['acme', 'succeeded'], 2)
  metrics.observe('switchyard.push.duration', ['ok'], 0.3)
  trace.getTracer('switchyard').startSpan('RUN agents').end()
  await sdk.close()

  const told = received.filter(({ path }) => path === '/v1/metrics').map(({ body }) => metricsRequest.parse(body).resourceMetrics[0]!)
  expect(told[0]?.resource.attributes).toEqual({ 'k8s.pod.name': 'c-1', 'service.name': 'switchyard-consumer', 'service.version': '1.2.3' })
  const named = new Map(told.flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((scope) => scope.metrics)).map((metric) => [metric.name, metric]))
  expect(named.get('switchyard.job.ends')?.sum).toMatchObject({ isMonotonic: true, aggregationTemporality: 2, dataPoints: [{ attributes: { tenant: 'acme', status: 'succeeded' }, asDouble: 2 }] })
  expect(named.get('switchyard.provider.running')?.gauge?.dataPoints).toMatchObject([{ attributes: { provider: 'e2b' }, asDouble: 3 }])
  const pushes = named.get('switchyard.push.duration')?.histogram?.dataPoints[0]
  expect(pushes).toMatchObject({ count: 1, sum: 0.3 })
  expect(pushes?.bucketCounts?.length).toBe((pushes?.explicitBounds?.length ?? 0) + 1)
  expect(pushes?.explicitBounds?.[pushes.bucketCounts?.indexOf(1) ?? -1]).toBe(0.5)

  const spans = received.filter(({ path }) => path === '/v1/traces').flatMap(({ body }) => tracesRequest.parse(body).resourceSpans)
  expect(spans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans.map(({ name }) => [scope.scope.name, name])))).toEqual([['switchyard', 'RUN agents']])
  expect(spans[0]?.resource.attributes['service.name']).toBe('switchyard-consumer')
})

it('is held up by no collector that is away', async () => {
  const metrics = new PrometheusMetrics()
  const sdk = await startOpenTelemetry(otlpSettings({ endpoint: 'http://127.0.0.1:9', traces: true, metrics: true, everyMs: 3_600_000 }, {}, 's'), { version: '0', metrics, onError: () => undefined })
  trace.getTracer('switchyard').startSpan('x').end()
  await sdk.close()
})
