import { collectDefaultMetrics, Registry, type Metric } from 'prom-client'
import { Cells } from './cells.js'
import { metricTable, type CounterName, type GaugeName, type HistogramName, type LabelValues, type MetricEntry, type MetricName } from './metric-table.js'
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
  private readonly metrics = new Map<string, Cells>()
  private readonly tenants = new TenantLabels((label) => this.forgetTenant(label))
  private reading: Promise<void> | undefined
  private readAtMs = -Infinity

  constructor(private readonly options: PrometheusMetricsOptions = {}) {
    for (const [name, entry] of Object.entries<MetricEntry>(metricTable)) {
      const cells = new Cells(name, entry)
      this.metrics.set(name, cells)
      // There is nothing to learn first; see `declare`.
      if (entry.labels.length === 0 && entry.scope === 'process' && entry.type !== 'gauge') cells.declare([])
      // The registry asks a metric for its name and its values; the types want prom-client's own classes.
      this.registry.registerMetric(cells as unknown as Metric)
    }
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: 100 })
  }

  add<Name extends CounterName>(name: Name, labels: LabelValues<Name>, by = 1): void {
    this.metrics.get(name)?.add(this.shown(name, labels as readonly string[]), Math.max(0, by))
  }

  observe<Name extends HistogramName>(name: Name, labels: LabelValues<Name>, value: number): void {
    // A clock that was set back makes no negative durations.
    this.metrics.get(name)?.observe(labels as readonly string[], Math.max(0, value))
  }

  shift<Name extends GaugeName>(name: Name, labels: LabelValues<Name>, by: number): void {
    this.metrics.get(name)?.add(labels as readonly string[], by)
  }

  declare<Name extends MetricName>(name: Name, labels: LabelValues<Name>): void {
    this.metrics.get(name)?.declare(labels as readonly string[])
  }

  /** The text that Prometheus scrapes. */
  async scrape(): Promise<{ readonly contentType: string; readonly text: string }> {
    await this.refresh()
    return { contentType: this.registry.contentType, text: await this.registry.metrics() }
  }

  /** Reads the deployment's figures again where they are too old; several who ask at once wait for one reading. */
  async refresh(): Promise<void> {
    this.set('switchyard.loops.stuck', this.options.stuckLoops?.() ?? 0)
    const { figures, figuresForMs = defaultFiguresForMs } = this.options
    if (figures === undefined || performance.now() - this.readAtMs < figuresForMs) return
    this.reading ??= this.read(figures).finally(() => (this.reading = undefined))
    await this.reading
  }

  private async read(figures: () => Promise<DeploymentFigures>): Promise<void> {
    let read: DeploymentFigures = new Map()
    try {
      read = await figures()
      this.set('switchyard.redis.up', 1)
    } catch (error) {
      // What is not known is not exported: an old figure would look like a new one.
      this.set('switchyard.redis.up', 0)
      this.options.onError?.(error)
    }
    this.readAtMs = performance.now()
    for (const [name, entry] of Object.entries<MetricEntry>(metricTable)) {
      if (entry.scope !== 'deployment') continue
      const cells = this.metrics.get(name)
      cells?.clear()
      for (const [labels, value] of read.get(name as MetricName) ?? []) cells?.add(labels, value)
    }
  }

  /** A gauge without labels. */
  private set(name: GaugeName, value: number): void {
    const cells = this.metrics.get(name)
    cells?.clear()
    cells?.add([], value)
  }

  private shown(name: MetricName, labels: readonly string[]): readonly string[] {
    const at = tenantAt.get(name)
    return at === undefined ? labels : labels.with(at, this.tenants.labelFor(labels[at] ?? ''))
  }

  /** Its series go: a later one begins anew, as after a restart. */
  private forgetTenant(label: string): void {
    for (const name of tenantAt.keys()) this.metrics.get(name)?.remove('tenant', label)
  }
}

/** Where among its labels a metric has the tenant. */
const tenantAt = new Map(Object.entries<MetricEntry>(metricTable).flatMap(([name, { labels }]) => (labels.includes('tenant') ? [[name, labels.indexOf('tenant')] as const] : [])))
