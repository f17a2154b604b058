import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import { metricTable, prometheusLabel, prometheusName, type CounterName, type GaugeName, type HistogramName, type LabelValues, type MetricEntry, type MetricName } from './metric-table.js'
import type { Metrics } from './metrics.js'
import { TenantLabels } from './tenant-labels.js'

/** What is the same whichever process is asked; each metric's values, with their labels in the table's order. */
export type DeploymentFigures = ReadonlyMap<MetricName, readonly (readonly [labels: readonly string[], value: number])[]>

export interface PrometheusMetricsOptions {
  /** Reads the deployment's figures from Redis, in bounded time. Left out: they are not exported. */
  readonly figures?: (() => Promise<DeploymentFigures>) | undefined
  /** How long they are used for before they are read again, in milliseconds. Default 5,000. */
  readonly figuresForMs?: number | undefined
  /** How many loops are stuck. */
  readonly stuckLoops?: (() => number) | undefined
  /** Told of figures that could not be read. */
  readonly onError?: ((error: unknown) => void) | undefined
}

const defaultFiguresForMs = 5_000

/** Measures into one registry of its own, of which Prometheus and OTLP get the same. */
export class PrometheusMetrics implements Metrics {
  readonly on = true
  readonly registry = new Registry()
  private readonly counters = new Map<string, Counter>()
  private readonly gauges = new Map<string, Gauge>()
  private readonly histograms = new Map<string, Histogram>()
  private readonly tenants = new TenantLabels((label) => this.forgetTenant(label))
  private reading: Promise<void> | undefined
  private readAtMs = -Infinity

  constructor(private readonly options: PrometheusMetricsOptions = {}) {
    for (const [name, entry] of Object.entries<MetricEntry>(metricTable)) {
      const common = { name: prometheusName(name, entry), help: entry.help, labelNames: entry.labels.map(prometheusLabel), registers: [this.registry] }
      if (entry.type === 'counter') this.counters.set(name, new Counter(common))
      else if (entry.type === 'gauge') this.gauges.set(name, new Gauge(common))
      else this.histograms.set(name, new Histogram({ ...common, buckets: [...(entry.buckets ?? [])] }))
    }
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: 100 })
  }

  add<Name extends CounterName>(name: Name, labels: LabelValues<Name>, by = 1): void {
    this.counters.get(name)?.labels(...this.shown(name, labels as readonly string[])).inc(Math.max(0, by))
  }

  observe<Name extends HistogramName>(name: Name, labels: LabelValues<Name>, value: number): void {
    // A clock that was set back makes no negative durations.
    this.histograms.get(name)?.labels(...(labels as readonly string[])).observe(Math.max(0, value))
  }

  shift<Name extends GaugeName>(name: Name, labels: LabelValues<Name>, by: number): void {
    this.gauges.get(name)?.labels(...(labels as readonly string[])).inc(by)
  }

  /** The text that Prometheus scrapes. */
  async scrape(): Promise<{ readonly contentType: string; readonly text: string }> {
    await this.refresh()
    return { contentType: this.registry.contentType, text: await this.registry.metrics() }
  }

  /** Reads the deployment's figures again where they are too old; several who ask at once wait for one reading. */
  async refresh(): Promise<void> {
    this.gauges.get('switchyard.loops.stuck')?.set(this.options.stuckLoops?.() ?? 0)
    const { figures, figuresForMs = defaultFiguresForMs } = this.options
    if (figures === undefined || performance.now() - this.readAtMs < figuresForMs) return
    this.reading ??= this.read(figures).finally(() => (this.reading = undefined))
    await this.reading
  }

  private async read(figures: () => Promise<DeploymentFigures>): Promise<void> {
    let read: DeploymentFigures = new Map()
    try {
      read = await figures()
      this.gauges.get('switchyard.redis.up')?.set(1)
    } catch (error) {
      // What is not known is not exported: an old figure would look like a new one.
      this.gauges.get('switchyard.redis.up')?.set(0)
      this.options.onError?.(error)
    }
    this.readAtMs = performance.now()
    for (const [name, entry] of Object.entries<MetricEntry>(metricTable)) {
      if (entry.scope !== 'deployment') continue
      const metric = this.counters.get(name) ?? this.gauges.get(name)
      metric?.reset()
      if (metric !== undefined && entry.labels.length === 0 && !read.has(name as MetricName)) metric.remove()
      for (const [labels, value] of read.get(name as MetricName) ?? []) metric?.labels(...labels).inc(value)
    }
  }

  private shown(name: MetricName, labels: readonly string[]): readonly string[] {
    const at = (metricTable[name].labels as readonly string[]).indexOf('tenant')
    return at === -1 ? labels : labels.with(at, this.tenants.labelFor(labels[at] ?? ''))
  }

  /** Its series go: a later one begins anew, as after a restart. */
  private forgetTenant(label: string): void {
    for (const counter of this.counters.values()) {
      for (const labels of labelsIn(counter)) if (labels['tenant'] === label) counter.remove(labels)
    }
  }
}

/** prom-client gives a metric's values to those who wait for them only; the label sets stand in a field that its types leave out. */
function labelsIn(counter: Counter): Record<string, string>[] {
  const { hashMap } = counter as unknown as { readonly hashMap: Readonly<Record<string, { readonly labels: Record<string, string> }>> }
  return Object.values(hashMap).map(({ labels }) => labels)
}
