// Writes Grafana's dashboards into deploy/grafana, from the panels below. A test holds the files against this, and a real Prometheus answers each query.
import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

interface Panel {
  readonly title: string
  readonly unit: 's' | 'bytes' | 'short' | 'percentunit' | 'ops'
  readonly queries: readonly (readonly [legend: string, expr: string])[]
}
interface Dashboard {
  readonly uid: string
  readonly title: string
  readonly rows: readonly (readonly [title: string, panels: readonly Panel[]])[]
}

const quantile = (of: number, metric: string, by = '') => `histogram_quantile(${of}, sum by (le${by === '' ? '' : `, ${by}`}) (rate(${metric}_bucket[$__rate_interval])))`
const times = (metric: string, by = ''): Panel['queries'] => {
  const legend = by === '' ? '' : ` {{${by}}}`
  return [[`p50${legend}`, quantile(0.5, metric, by)], [`p95${legend}`, quantile(0.95, metric, by)]]
}

export const dashboards: readonly Dashboard[] = [
  {
    uid: 'switchyard-overview',
    title: 'Switchyard: overview',
    rows: [
      ['Queue', [
        { title: 'Jobs by state', unit: 'short', queries: [['{{state}}', 'max by (state) (switchyard_queue_jobs{state!~"completed|failed"})']] },
        { title: 'Why jobs wait', unit: 'short', queries: [['{{reason}}', 'max by (reason) (switchyard_queue_jobs{state="waiting"})']] },
        { title: 'Age of the oldest job', unit: 's', queries: [['{{queue}} {{state}}', 'max by (queue, state) (switchyard_queue_oldest_age_seconds)']] },
        { title: 'Wait from queue to consumer', unit: 's', queries: [['p50', 'histogram_quantile(0.5, sum by (le) (rate(cicd_pipeline_run_duration_seconds_bucket{cicd_pipeline_run_state="pending"}[$__rate_interval])))'], ['p95', 'histogram_quantile(0.95, sum by (le) (rate(cicd_pipeline_run_duration_seconds_bucket{cicd_pipeline_run_state="pending"}[$__rate_interval])))']] },
      ]],
      ['Jobs', [
        { title: 'Ends by status', unit: 'ops', queries: [['{{status}}', 'sum by (status) (rate(switchyard_job_ends_total[$__rate_interval]))']] },
        { title: 'From queue to result', unit: 's', queries: times('switchyard_job_total_duration_seconds') },
        { title: 'From work that is done to its result', unit: 's', queries: [['p95', 'histogram_quantile(0.95, sum by (le) (rate(cicd_pipeline_run_duration_seconds_bucket{cicd_pipeline_run_state="finalizing"}[$__rate_interval])))']] },
        { title: 'In hand, by consumer', unit: 'short', queries: [['{{instance}}', 'sum by (instance) (cicd_pipeline_run_active)']] },
        { title: 'Ends with errors, by kind', unit: 'ops', queries: [['{{error_type}}', 'sum by (error_type) (rate(cicd_pipeline_run_errors_total[$__rate_interval]))']] },
        { title: 'Starts by tenant', unit: 'ops', queries: [['{{tenant}}', 'topk(10, sum by (tenant) (rate(switchyard_job_starts_total[$__rate_interval])))']] },
        { title: 'Sandbox time by tenant', unit: 's', queries: [['{{tenant}}', 'topk(10, sum by (tenant) (increase(switchyard_sandbox_time_seconds_total[1h])))']] },
        { title: 'Cost by tenant, in the last hour', unit: 'short', queries: [['{{tenant}} {{currency}}', 'topk(10, sum by (tenant, currency) (increase(switchyard_cost_total[1h])))']] },
      ]],
      ['Consumers', [
        { title: 'Live consumers', unit: 'short', queries: [['{{cicd_worker_state}}', 'max by (cicd_worker_state) (cicd_worker_count)']] },
        { title: 'Hand-overs', unit: 'short', queries: [['{{direction}}', 'sum by (direction) (increase(switchyard_job_handovers_total[$__rate_interval]))']] },
        { title: 'Processor time', unit: 'percentunit', queries: [['{{instance}}', 'rate(process_cpu_seconds_total[$__rate_interval])']] },
        { title: 'Memory', unit: 'bytes', queries: [['{{instance}}', 'process_resident_memory_bytes']] },
        { title: 'Event loop lag, p99', unit: 's', queries: [['{{instance}}', 'nodejs_eventloop_lag_p99_seconds']] },
        { title: 'Stuck loops', unit: 'short', queries: [['{{instance}}', 'switchyard_loops_stuck']] },
      ]],
      ['Redis', [
        { title: 'Commands', unit: 'ops', queries: [['{{command}}', 'topk(15, sum by (command) (rate(switchyard_redis_command_duration_seconds_count[$__rate_interval])))']] },
        { title: 'Scripts and commands, p99', unit: 's', queries: [['{{command}}', 'topk(10, histogram_quantile(0.99, sum by (le, command) (rate(switchyard_redis_command_duration_seconds_bucket[$__rate_interval]))))']] },
        { title: 'Reached', unit: 'short', queries: [['{{instance}}', 'switchyard_redis_up']] },
      ]],
    ],
  },
  {
    uid: 'switchyard-providers',
    title: 'Switchyard: providers and work',
    rows: [
      ['Providers', [
        { title: 'Places taken', unit: 'short', queries: [['{{provider}}', 'max by (provider) (switchyard_provider_running)'], ['{{provider}} limit', 'max by (provider) (switchyard_provider_limit)']] },
        { title: 'Waiting for a place', unit: 'short', queries: [['{{provider}}', 'max by (provider) (switchyard_provider_waiting)']] },
        { title: 'Breaker open', unit: 'short', queries: [['{{provider}}', 'max by (provider) (switchyard_provider_breaker_open)']] },
        { title: 'Creates', unit: 's', queries: times('switchyard_sandbox_create_duration_seconds', 'provider') },
        { title: 'Creates that failed', unit: 'percentunit', queries: [['{{provider}}', '(sum by (provider) (rate(switchyard_sandbox_create_duration_seconds_count{outcome="error"}[$__rate_interval])) or sum by (provider) (rate(switchyard_sandbox_create_duration_seconds_count[$__rate_interval])) * 0) / sum by (provider) (rate(switchyard_sandbox_create_duration_seconds_count[$__rate_interval]))']] },
        { title: 'Errors by owner', unit: 'ops', queries: [['{{owner}} {{kind}} {{provider}}', 'sum by (owner, kind, provider) (rate(switchyard_errors_total[$__rate_interval]))']] },
        { title: 'Moves', unit: 'short', queries: [['{{provider}} {{why}}', 'sum by (provider, why) (increase(switchyard_job_moves_total[$__rate_interval]))']] },
        { title: 'Forgotten sandboxes killed', unit: 'short', queries: [['{{provider}}', 'sum by (provider) (increase(switchyard_sandbox_reaped_total[1h]))']] },
        { title: 'Leaked', unit: 'short', queries: [['{{provider}}', 'max by (provider) (switchyard_sandbox_leaked)']] },
      ]],
      ['Work', [
        { title: 'Clones', unit: 's', queries: times('switchyard_clone_duration_seconds', 'provider') },
        { title: 'Steps', unit: 's', queries: times('switchyard_step_duration_seconds', 'outcome') },
        { title: 'Checkpoints', unit: 's', queries: times('switchyard_checkpoint_duration_seconds', 'outcome') },
        { title: 'Size of checkpoints', unit: 'bytes', queries: times('switchyard_checkpoint_size_bytes', 'provider') },
        { title: 'Pushes', unit: 's', queries: times('switchyard_push_duration_seconds') },
        { title: 'Promotions', unit: 's', queries: times('switchyard_promotion_duration_seconds') },
        { title: 'Work lost', unit: 's', queries: [['{{provider}}', 'sum by (provider) (increase(switchyard_job_work_lost_seconds_total[1h]))']] },
      ]],
      ['Events', [
        { title: 'Lag of readers', unit: 's', queries: [['{{group}}', 'max by (group) (switchyard_events_lag_seconds)']] },
        { title: 'Unread, pending', unit: 'short', queries: [['{{group}} unread', 'max by (group) (switchyard_events_unread)'], ['{{group}} pending', 'max by (group) (switchyard_events_pending)']] },
        { title: 'Dead letters', unit: 'short', queries: [['{{group}}', 'max by (group) (switchyard_events_dead)']] },
        { title: 'Trimmed before they were read', unit: 'short', queries: [['{{group}}', 'max by (group) (increase(switchyard_events_trimmed_unread_total[1h]))']] },
        { title: 'Webhooks', unit: 'ops', queries: [['{{outcome}}', 'sum by (outcome) (rate(switchyard_webhook_duration_seconds_count[$__rate_interval]))']] },
        { title: 'From an event to its delivery', unit: 's', queries: times('switchyard_webhook_lag_seconds') },
      ]],
    ],
  },
]

const datasource = { type: 'prometheus', uid: '${datasource}' }
const across = 24
const width = 8
const height = 8

/** A dashboard as Grafana imports it. */
export function grafanaDashboard({ uid, title, rows }: Dashboard): object {
  let y = 0
  let id = 0
  const panels = rows.flatMap(([row, own]) => {
    const head = { id: ++id, type: 'row', title: row, collapsed: false, panels: [], gridPos: { x: 0, y, w: across, h: 1 } }
    y += 1
    const placed = own.map(({ title: name, unit, queries }, index) => ({
      id: ++id,
      type: 'timeseries',
      title: name,
      datasource,
      gridPos: { x: (index * width) % across, y: y + Math.floor((index * width) / across) * height, w: width, h: height },
      fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
      options: { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi' } },
      targets: queries.map(([legendFormat, expr], at) => ({ refId: String.fromCharCode(65 + at), datasource, expr, legendFormat })),
    }))
    y += Math.ceil((own.length * width) / across) * height
    return [head, ...placed]
  })
  return {
    uid,
    title,
    tags: ['switchyard'],
    schemaVersion: 39,
    refresh: '30s',
    time: { from: 'now-3h', to: 'now' },
    templating: { list: [{ name: 'datasource', type: 'datasource', query: 'prometheus', label: 'Prometheus' }] },
    panels,
  }
}

/** The file of a dashboard, beside deploy/grafana, and what it is to hold. */
export function dashboardFiles(): [name: string, text: string][] {
  return dashboards.map((dashboard) => [`${dashboard.uid}.json`, `${JSON.stringify(grafanaDashboard(dashboard), null, 2)}\n`])
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, text] of dashboardFiles()) await writeFile(new URL(`../deploy/grafana/${name}`, import.meta.url), text)
}
