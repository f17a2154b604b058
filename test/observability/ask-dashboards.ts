import { dashboards } from '../../script/write-dashboards.js'
import type { RunningPrometheus } from './prometheus.js'

/** Every query of the dashboards, with where it stands. */
const queries = dashboards.flatMap(({ title, rows }) => rows.flatMap(([, panels]) => panels.flatMap((panel) => panel.queries.map(([legend, expr]) => ({ name: `${title} / ${panel.title} / ${legend}`, expr })))))

/** Those to which a Prometheus has no number as an answer, anywhere in the last `seconds`. */
export async function unansweredQueries(prometheus: Pick<RunningPrometheus, 'series'>, seconds: number): Promise<{ readonly asked: number; readonly unanswered: readonly string[] }> {
  const unanswered: string[] = []
  for (const { name, expr } of queries) if ((await prometheus.series(expr, seconds)) === 0) unanswered.push(name)
  return { asked: queries.length, unanswered }
}
