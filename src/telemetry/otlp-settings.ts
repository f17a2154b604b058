/** Where traces and metrics are sent; null for nowhere. */
export interface OtlpSettings {
  readonly traces: string | null
  readonly metrics: string | null
  /** How often metrics are sent, in milliseconds. */
  readonly everyMs: number
  readonly serviceName: string
  /** What `OTEL_RESOURCE_ATTRIBUTES` says besides. */
  readonly attributes: Readonly<Record<string, string>>
}

export interface OtlpConfig {
  readonly endpoint: string
  readonly traces: boolean
  readonly metrics: boolean
  readonly everyMs: number
}

type Environment = Readonly<Record<string, string | undefined>>

/** By the configuration and by OpenTelemetry's own variables, which win. Headers, time limits and sampling the SDK reads from them by itself. */
export function otlpSettings(config: OtlpConfig | undefined, environment: Environment, serviceName: string): OtlpSettings {
  const of = (name: string) => (environment[name] === undefined || environment[name] === '' ? undefined : environment[name])
  const off = of('OTEL_SDK_DISABLED')?.toLowerCase() === 'true'
  const endpoint = (signal: 'traces' | 'metrics'): string | null => {
    const named = of(`OTEL_${signal.toUpperCase()}_EXPORTER`)
    if (off || (named !== undefined && named !== 'otlp')) return null
    const own = of(`OTEL_EXPORTER_OTLP_${signal.toUpperCase()}_ENDPOINT`)
    if (own !== undefined) return own
    const base = of('OTEL_EXPORTER_OTLP_ENDPOINT') ?? (config?.[signal] === true ? config.endpoint : undefined)
    return base === undefined ? null : `${base.replace(/\/$/, '')}/v1/${signal}`
  }
  const intervalMs = Number(of('OTEL_METRIC_EXPORT_INTERVAL'))
  return {
    traces: endpoint('traces'),
    metrics: endpoint('metrics'),
    everyMs: Number.isInteger(intervalMs) && intervalMs >= 1 ? intervalMs : (config?.everyMs ?? 60_000),
    serviceName: of('OTEL_SERVICE_NAME') ?? serviceName,
    attributes: resourceAttributes(of('OTEL_RESOURCE_ATTRIBUTES') ?? ''),
  }
}

/** `key=value,key=value`, the values percent-encoded. A pair that is none is left out. */
function resourceAttributes(text: string): Record<string, string> {
  const pairs = text.split(',').flatMap((pair) => {
    const [key = '', value] = pair.split('=', 2).map((part) => part.trim())
    if (key === '' || value === undefined) return []
    try {
      return [[key, decodeURIComponent(value)] as const]
    } catch {
      return []
    }
  })
  return Object.fromEntries(pairs)
}
