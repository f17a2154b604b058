/** What watches a deployment, for a process of one's own: probes, metrics, and what the whole deployment holds. */
export { deploymentFigures } from './deployment-figures.js'
export { startMonitorServer, type MonitorServer, type MonitorServerOptions, type Scrape } from './monitor-server.js'
export { metricTable, prometheusName, type MetricEntry, type MetricName } from '../telemetry/metric-table.js'
export type { Metrics } from '../telemetry/metrics.js'
export { PrometheusMetrics, type DeploymentFigures, type PrometheusMetricsOptions } from '../telemetry/prometheus-metrics.js'
export { createMonitor, type Monitor, type MonitorOptions } from './create-monitor.js'
export type { LinkTemplates } from '../job/page-links.js'
export type { MonitoredQueue } from './source.js'
