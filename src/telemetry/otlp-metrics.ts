import { ValueType } from '@opentelemetry/api'
import type { Registry } from 'prom-client'
import type * as Sdk from '@opentelemetry/sdk-metrics'
import type { MetricData, MetricProducer, ResourceMetrics } from '@opentelemetry/sdk-metrics'
import { metricTable, prometheusLabel, prometheusName, type MetricEntry } from './metric-table.js'

/** The SDK's enumerations; it is loaded only where it is used. */
type Enumerations = Pick<typeof Sdk, 'AggregationTemporality' | 'DataPointType'>

interface Known {
  readonly name: string
  readonly unit: string
  /** Prometheus' labels to the table's. */
  readonly labels: ReadonlyMap<string, string>
}

const known = new Map<string, Known>(
  Object.entries<MetricEntry>(metricTable).map(([name, entry]) => [prometheusName(name, entry), { name, unit: entry.unit, labels: new Map(entry.labels.map((label) => [prometheusLabel(label), label])) }]),
)

type HrTime = [number, number]
interface Value {
  readonly value: number
  readonly labels: Readonly<Record<string, string | number | undefined>>
  readonly metricName?: string | undefined
}

/** Gives the OTLP exporter what the registry of Prometheus holds: the same numbers, under OpenTelemetry's names. */
export function metricsOf(registry: Registry, resource: ResourceMetrics['resource'], scope: { readonly name: string; readonly version: string }, refresh: () => Promise<void>, sdk: Enumerations): MetricProducer {
  const startTime = hrTime(Date.now())
  return {
    async collect() {
      await refresh()
      const endTime = hrTime(Date.now())
      const metrics = (await registry.getMetricsAsJSON()).flatMap((metric) => {
        const data = metricData(metric.name, metric.help, String(metric.type), (metric as unknown as { readonly values: readonly Value[] }).values, { startTime, endTime }, sdk)
        return data === null ? [] : [data]
      })
      return { resourceMetrics: { resource, scopeMetrics: [{ scope, metrics }] }, errors: [] }
    },
  }
}

/** One metric as OTLP has it; null for one without values. What is no number, such as the mean of nothing, JSON has no way to say: it is left out. */
export function metricData(name: string, help: string, type: string, given: readonly Value[], times: { readonly startTime: HrTime; readonly endTime: HrTime }, { AggregationTemporality, DataPointType }: Enumerations): MetricData | null {
  const values = given.filter(({ value }) => Number.isFinite(value))
  if (values.length === 0) return null
  const entry = known.get(name)
  const descriptor = { name: entry?.name ?? name, description: help, unit: entry?.unit ?? '', valueType: ValueType.DOUBLE }
  const attributesOf = (labels: Value['labels']) => Object.fromEntries(Object.entries(labels).flatMap(([label, value]) => (label === 'le' || value === undefined ? [] : [[entry?.labels.get(label) ?? label, String(value)]])))
  const common = { descriptor, aggregationTemporality: AggregationTemporality.CUMULATIVE }
  if (type === 'histogram') {
    const series = new Map<string, { attributes: Record<string, string>; boundaries: number[]; below: number[]; sum: number; count: number }>()
    for (const { value, labels, metricName } of values) {
      const attributes = attributesOf(labels)
      const key = JSON.stringify(attributes)
      const one = series.get(key) ?? { attributes, boundaries: [], below: [], sum: 0, count: 0 }
      series.set(key, one)
      if (metricName === `${name}_sum`) one.sum = value
      else if (metricName === `${name}_count`) one.count = value
      else if (labels['le'] !== '+Inf') {
        one.boundaries.push(Number(labels['le']))
        one.below.push(value)
      }
    }
    // Prometheus counts all that is below a bound, OTLP what is between two.
    const dataPoints = [...series.values()].map(({ attributes, boundaries, below, sum, count }) => ({ ...times, attributes, value: { buckets: { boundaries, counts: [...below, count].map((each, index) => each - (index === 0 ? 0 : (below[index - 1] ?? 0))) }, sum, count } }))
    return { ...common, dataPointType: DataPointType.HISTOGRAM, dataPoints }
  }
  const dataPoints = values.map(({ value, labels }) => ({ ...times, attributes: attributesOf(labels), value }))
  return type === 'counter' ? { ...common, dataPointType: DataPointType.SUM, isMonotonic: true, dataPoints } : { ...common, dataPointType: DataPointType.GAUGE, dataPoints }
}

function hrTime(atMs: number): HrTime {
  return [Math.floor(atMs / 1000), Math.round((atMs % 1000) * 1e6)]
}
