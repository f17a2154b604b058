import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { dashboardFiles, dashboards } from '../../script/write-dashboards.js'
import { startMonitorServer } from '../../src/monitor/monitor-server.js'
import { metricTable, prometheusName, type MetricEntry } from '../../src/telemetry/metric-table.js'
import { PrometheusMetrics } from '../../src/telemetry/prometheus-metrics.js'
import { after, until } from '../store/fixture.js'
import { faults } from './faults.js'
import { hasPrometheus, startPrometheus } from './prometheus.js'

const promtool = '/usr/bin/promtool'
const rulesText = readFileSync('deploy/prometheus/alerts.yml', 'utf8')
const rules = z.object({ groups: z.array(z.object({ rules: z.array(z.object({ alert: z.string(), expr: z.string(), annotations: z.object({ summary: z.string(), runbook_url: z.string() }) })) })) }).parse(parse(rulesText)).groups.flatMap((group) => group.rules)
const queries = [...rules.map(({ expr }) => expr), ...dashboards.flatMap(({ rows }) => rows.flatMap(([, panels]) => panels.flatMap((panel) => panel.queries.map(([, expr]) => expr))))]

it('has Grafana’s dashboards as they are written; otherwise run npx tsx script/write-dashboards.ts', () => {
  for (const [name, text] of dashboardFiles()) expect(readFileSync(`deploy/grafana/${name}`, 'utf8')).toBe(text)
})

it('asks for metrics that there are, in queries that never sum what every process says', () => {
  const suffixes = ['', '_bucket', '_count', '_sum']
  const known = new Map(Object.entries<MetricEntry>(metricTable).flatMap(([name, entry]) => suffixes.map((suffix) => [`${prometheusName(name, entry)}${suffix}`, entry])))
  for (const query of queries) {
    const names = [...query.matchAll(/\b(?:switchyard|cicd)_\w+(?=[[{ )]|$)/g)].map(([name]) => name).filter((name) => !/^(cicd_worker_state|cicd_pipeline_run_state|cicd_pipeline_name)$/.test(name))
    for (const name of names) {
      const entry = known.get(name)
      expect([query, name, entry !== undefined]).toEqual([query, name, true])
      if (entry?.scope === 'deployment') expect(query).toMatch(new RegExp(`max by \\([\\w, ]+\\) \\((?:increase\\()?${name}`))
    }
  }
})

it('has a runbook for each alert', () => {
  const text = readFileSync('docs/runbooks.md', 'utf8')
  for (const { alert, annotations } of rules) {
    expect(annotations.runbook_url).toBe(`docs/runbooks.md#${alert.toLowerCase()}`)
    expect(text).toContain(`\n## ${alert}\n`)
  }
  expect([...text.matchAll(/^## (Switchyard\w+)$/gm)].map(([, name]) => name).sort()).toEqual(rules.map(({ alert }) => alert).sort())
})

it('has one fault for each alert that npm run observability brings about', () => {
  expect(faults.flatMap(({ alerts }) => alerts).sort()).toEqual(rules.map(({ alert }) => alert).sort())
})

it.skipIf(!existsSync(promtool))('is right by promtool, and each alert fires where it should and nowhere else', () => {
  const run = (...args: string[]) => {
    const done = spawnSync(promtool, args, { cwd: 'deploy/prometheus', encoding: 'utf8' })
    return [done.status, done.status === 0 ? '' : done.stdout + done.stderr]
  }
  expect(run('check', 'rules', 'alerts.yml')).toEqual([0, ''])
  expect(run('test', 'rules', 'alerts.test.yml')).toEqual([0, ''])
})

it.skipIf(!hasPrometheus)('has queries that a real Prometheus answers, and rules that it takes', async () => {
  const metrics = new PrometheusMetrics()
  metrics.observe('cicd.pipeline.run.duration', ['agents', 'pending', ''], 1)
  const server = await startMonitorServer({ host: '127.0.0.1', port: 0, stuck: () => [], unready: () => Promise.resolve([]), metrics: () => metrics.scrape() })
  after(() => server.close())
  const prometheus = await startPrometheus([server.url], rulesText)
  after(() => prometheus.close())
  await until(async () => (await prometheus.series('cicd_pipeline_run_duration_seconds_count', 10)) === 1, 'a scrape')
  for (const query of queries) await prometheus.series(query, 10)
  await expect(prometheus.series('sum(', 10)).rejects.toThrow('parse error')
})
