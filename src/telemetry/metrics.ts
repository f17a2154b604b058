import type { CounterName, GaugeName, HistogramName, LabelValues } from './metric-table.js'

/** Where things are measured. Labels come in the order of the table. */
export interface Metrics {
  add<Name extends CounterName>(name: Name, labels: LabelValues<Name>, by?: number): void
  /** Durations in seconds. */
  observe<Name extends HistogramName>(name: Name, labels: LabelValues<Name>, value: number): void
  /** A gauge goes up or down by that. */
  shift<Name extends GaugeName>(name: Name, labels: LabelValues<Name>, by: number): void
  /** Whether anybody looks: what costs something to find out is found out only then. */
  readonly on: boolean
}

/** Measures nothing, and costs nothing. */
export const noMetrics: Metrics = { add: () => undefined, observe: () => undefined, shift: () => undefined, on: false }

/**
 * Measures how long something takes.
 * @param outcomeOf the label that says how it went.
 */
export async function timed<Result, Outcome extends string>(
  work: () => Promise<Result>,
  outcomeOf: (result: Result) => Outcome,
  record: (outcome: Outcome | 'error', seconds: number) => void,
): Promise<Result> {
  const began = performance.now()
  try {
    const result = await work()
    record(outcomeOf(result), (performance.now() - began) / 1000)
    return result
  } catch (error) {
    record('error', (performance.now() - began) / 1000)
    throw error
  }
}
