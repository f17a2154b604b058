import type { ResourceMetrics } from '@opentelemetry/sdk-metrics'
import { errorMessage, InvalidInputError } from '../job/errors.js'
import { metricsOf } from './otlp-metrics.js'
import type { OtlpSettings } from './otlp-settings.js'
import type { PrometheusMetrics } from './prometheus-metrics.js'
import { tracer } from './tracing.js'

export interface OpenTelemetry {
  /** Sends what is left, for a few seconds at most. */
  close(): Promise<void>
}

/** How long a collector may take as the process ends, in milliseconds. */
const flushMs = 3_000

/**
 * Sets OpenTelemetry's SDK up for this process, as far as something is to be sent: its packages are optional, and loaded only then.
 * @throws InvalidInputError when one of them is not installed.
 */
export async function startOpenTelemetry(settings: OtlpSettings, { version, metrics, onError }: { readonly version: string; readonly metrics: PrometheusMetrics | null; readonly onError: (error: unknown) => void }): Promise<OpenTelemetry> {
  const resource = resourceOf({ ...settings.attributes, 'service.name': settings.serviceName, 'service.version': version })
  const closers: (() => Promise<unknown>)[] = []
  // Whoever has set tracing up in this process already has it.
  if (settings.traces !== null && tracer() === null) {
    const [{ BatchSpanProcessor, NodeTracerProvider }, { OTLPTraceExporter }] = await load(() => Promise.all([import('@opentelemetry/sdk-trace-node'), import('@opentelemetry/exporter-trace-otlp-http')]))
    const provider = new NodeTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ url: settings.traces }))] })
    provider.register()
    closers.push(() => provider.shutdown())
  }
  if (settings.metrics !== null && metrics !== null) {
    const [sdk, { OTLPMetricExporter }] = await load(() => Promise.all([import('@opentelemetry/sdk-metrics'), import('@opentelemetry/exporter-metrics-otlp-http')]))
    const producer = metricsOf(metrics.registry, resource, { name: 'switchyard', version }, () => metrics.refresh(), sdk)
    const reader = new sdk.PeriodicExportingMetricReader({
      exporter: new OTLPMetricExporter({ url: settings.metrics }),
      exportIntervalMillis: settings.everyMs,
      exportTimeoutMillis: Math.min(settings.everyMs, 30_000),
      metricProducers: [producer],
    })
    const provider = new sdk.MeterProvider({ resource, readers: [reader] })
    closers.push(() => provider.shutdown({ timeoutMillis: flushMs }))
  }
  return {
    async close() {
      // A collector that is away holds nobody up.
      const late = new Promise((resolve) => setTimeout(resolve, flushMs).unref())
      await Promise.race([Promise.all(closers.map((close) => close().catch(onError))), late])
    },
  }
}

async function load<Modules>(modules: () => Promise<Modules>): Promise<Modules> {
  try {
    return await modules()
  } catch (error) {
    throw new InvalidInputError(
      `telemetry.otlp: OpenTelemetry's packages can't be loaded (${errorMessage(error)}); run "npm install @opentelemetry/sdk-trace-node @opentelemetry/sdk-metrics @opentelemetry/exporter-trace-otlp-http @opentelemetry/exporter-metrics-otlp-http", or leave telemetry.otlp and OTEL_EXPORTER_OTLP_ENDPOINT out`,
    )
  }
}

/** What the SDK wants of a resource; its package need not be installed beside the SDK that has it. */
function resourceOf(attributes: Readonly<Record<string, string>>): ResourceMetrics['resource'] {
  return {
    attributes,
    asyncAttributesPending: false,
    getRawAttributes: () => Object.entries(attributes),
    merge: (other) => (other === null ? resourceOf(attributes) : resourceOf({ ...attributes, ...(other.attributes as Record<string, string>) })),
  }
}
