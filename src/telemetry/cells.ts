import type { MetricEntry } from './metric-table.js'
import { prometheusLabel, prometheusName } from './metric-table.js'

/** As prom-client's registry takes a metric's values. */
interface SampledValue {
  readonly value: number
  readonly labels: Readonly<Record<string, string | number>>
  readonly metricName?: string
}

interface Cell {
  readonly values: readonly string[]
  /** Of a counter or gauge; of a histogram its sum. */
  sum: number
  /** Of a histogram: how much fell into each bucket, what is above all last. */
  readonly buckets: number[]
}

/**
 * The values of one metric, for prom-client's registry. prom-client's own take some two microseconds for each change, since they look labels up by
 * name; a consumer makes dozens of them for a job that takes it a millisecond. Here a change is one look into a map.
 */
export class Cells {
  readonly name: string
  readonly help: string
  readonly type: MetricEntry['type']
  private readonly labelNames: readonly string[]
  private readonly bounds: readonly number[]
  private readonly cells = new Map<string, Cell>()

  constructor(name: string, entry: MetricEntry) {
    this.name = prometheusName(name, entry)
    this.help = entry.help
    this.type = entry.type
    this.labelNames = entry.labels.map(prometheusLabel)
    this.bounds = entry.buckets ?? []
  }

  declare(values: readonly string[]): void {
    this.cell(values)
  }

  add(values: readonly string[], by: number): void {
    this.cell(values).sum += by
  }

  observe(values: readonly string[], value: number): void {
    const cell = this.cell(values)
    cell.sum += value
    let at = 0
    while (at < this.bounds.length && value > (this.bounds[at] ?? Infinity)) at++
    cell.buckets[at] = (cell.buckets[at] ?? 0) + 1
  }

  clear(): void {
    this.cells.clear()
  }

  /** Takes the series away in which a label has a value. */
  remove(label: string, value: string): void {
    const at = this.labelNames.indexOf(label)
    if (at === -1) return
    for (const [key, { values }] of this.cells) if (values[at] === value) this.cells.delete(key)
  }

  /** For the registry. */
  get(): Promise<{ name: string; help: string; type: string; values: SampledValue[]; aggregator: string }> {
    const values = [...this.cells.values()].flatMap((cell) => (this.type === 'histogram' ? this.histogram(cell) : [{ value: cell.sum, labels: this.labels(cell) }]))
    return Promise.resolve({ name: this.name, help: this.help, type: this.type, values, aggregator: 'sum' })
  }

  private histogram(cell: Cell): SampledValue[] {
    const labels = this.labels(cell)
    let below = 0
    const buckets = [...this.bounds, '+Inf' as const].map((le, at) => {
      below += cell.buckets[at] ?? 0
      return { metricName: `${this.name}_bucket`, labels: { le, ...labels }, value: below }
    })
    return [...buckets, { metricName: `${this.name}_sum`, labels, value: cell.sum }, { metricName: `${this.name}_count`, labels, value: below }]
  }

  private labels({ values }: Cell): Record<string, string> {
    return Object.fromEntries(this.labelNames.map((label, index) => [label, values[index] ?? '']))
  }

  private cell(values: readonly string[]): Cell {
    const key = values.length === 1 ? (values[0] ?? '') : values.join('\0')
    const known = this.cells.get(key)
    if (known !== undefined) return known
    const made: Cell = { values: [...values], sum: 0, buckets: this.type === 'histogram' ? Array.from({ length: this.bounds.length + 1 }, () => 0) : [] }
    this.cells.set(key, made)
    return made
  }
}
