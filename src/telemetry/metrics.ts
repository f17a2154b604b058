import type { CounterName, GaugeName, HistogramName, LabelValues, MetricName } from './metric-table.js'

/** Where things are measured. Labels come in the order of the table. */
export interface Metrics {
  add<Name extends CounterName>(name: Name, labels: LabelValues<Name>, by?: number): void
  /** Durations in seconds. */
  observe<Name extends HistogramName>(name: Name, labels: LabelValues<Name>, value: number): void
  /** A gauge goes up or down by that. */
  shift<Name extends GaugeName>(name: Name, labels: LabelValues<Name>, by: number): void
  /**
   * The series is there from now on, at 0. Prometheus sees no increase in one that begins with its first value, so what rates and alerts are asked of is
   * declared as soon as its labels are known.
   */
  declare<Name extends MetricName>(name: Name, labels: LabelValues<Name>): void
  /** Whether anybody looks: what costs something to find out is found out only then. */
  readonly on: boolean
}

/** Measures nothing, and costs nothing. */
export const noMetrics: Metrics = { add: () => undefined, observe: () => undefined, shift: () => undefined, declare: () => undefined, on: false }
