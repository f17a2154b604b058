/**
 * The sandboxes as Daytona's control plane sees them: creating → started → (stopped →) destroying → destroyed, or error.
 * The commands run in a `SandboxHost`; a record outlives its sandbox there, since Daytona still tells of it.
 */
import { randomUUID } from 'node:crypto'
import type { SandboxHost } from '../sandbox-host.js'

export interface CreateBody {
  readonly name?: string | undefined
  readonly snapshot?: string | undefined
  readonly buildInfo?: { readonly dockerfileContent: string } | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly labels?: Readonly<Record<string, string>> | undefined
  readonly target?: string | undefined
  readonly cpu?: number | undefined
  readonly memory?: number | undefined
  readonly disk?: number | undefined
  readonly autoStopInterval?: number | undefined
  readonly autoDeleteInterval?: number | undefined
  readonly ttlMinutes?: number | undefined
  readonly networkBlockAll?: boolean | undefined
  readonly networkAllowList?: string | undefined
  readonly domainAllowList?: string | undefined
  /** Variables, and the organisation's secrets that they stand for. */
  readonly secrets?: readonly Readonly<Record<string, string>>[] | undefined
}

export type RecordState = 'creating' | 'started' | 'stopped' | 'destroying' | 'destroyed' | 'error' | 'build_failed'

export interface SandboxRecord {
  readonly id: string
  readonly name: string
  readonly body: CreateBody
  readonly cpu: number
  readonly memory: number
  readonly disk: number
  readonly createdAtMs: number
  labels: Readonly<Record<string, string>>
  state: RecordState
  errorReason: string | undefined
  destroyAtMs: number | undefined
  lastActivityAtMs: number
  autoStopInterval: number
  autoDeleteInterval: number
  endedAtMs: number | undefined
  idle: NodeJS.Timeout | undefined
}

export interface Pool {
  readonly cpu: number
  readonly memoryGiB: number
  readonly diskGiB: number
}

const rememberedEnded = 1000
const endlessMs = 365 * 24 * 3600_000

export class SandboxRecords {
  private readonly records = new Map<string, SandboxRecord>()
  private readonly starting = new Set<Promise<void>>()
  private closed = false

  constructor(
    private readonly host: SandboxHost<SandboxRecord>,
    private readonly options: {
      /** How long a Daytona minute lasts here. */
      readonly minuteMs: number
      readonly startDelayMs: number
      readonly enforcesNames: boolean
      /** Why a sandbox of this image or snapshot does not start. */
      readonly startFailure: (record: SandboxRecord) => { state: 'error' | 'build_failed'; reason: string } | undefined
    },
  ) {}

  /** By id or name, as every path of the API takes either; destroyed ones are not found. */
  find(idOrName: string): SandboxRecord | undefined {
    const byId = this.records.get(idOrName)
    if (byId !== undefined) return byId.state === 'destroyed' ? undefined : byId
    return [...this.records.values()].find((record) => record.name === idOrName && record.state !== 'destroyed')
  }

  /** Those that are not destroyed, oldest first; with `asOfMs` as they were at that moment. */
  list(asOfMs?: number): SandboxRecord[] {
    const all = [...this.records.values()]
    if (asOfMs === undefined) return all.filter((record) => record.state !== 'destroyed')
    return all
      .filter((record) => record.createdAtMs <= asOfMs && (record.endedAtMs === undefined || record.endedAtMs > asOfMs))
      .map((record) => (record.endedAtMs === undefined ? record : { ...record, state: 'started' as const }))
  }

  /** What the pool's sandboxes take; a stopped one keeps its disk only. */
  used(): Pool {
    const live = this.list()
    const running = live.filter((record) => record.state !== 'stopped')
    const sum = (records: readonly SandboxRecord[], key: 'cpu' | 'memory' | 'disk'): number => records.reduce((total, record) => total + record[key], 0)
    return { cpu: sum(running, 'cpu'), memoryGiB: sum(running, 'memory'), diskGiB: sum(live, 'disk') }
  }

  add(body: CreateBody): SandboxRecord {
    const id = randomUUID()
    const nowMs = Date.now()
    const ttl = body.ttlMinutes ?? 0
    const record: SandboxRecord = {
      id,
      name: body.name ?? id,
      body,
      cpu: body.cpu ?? 1,
      memory: body.memory ?? 1,
      disk: body.disk ?? 3,
      createdAtMs: nowMs,
      labels: body.labels ?? {},
      state: 'creating',
      errorReason: undefined,
      destroyAtMs: ttl === 0 ? undefined : nowMs + ttl * this.options.minuteMs,
      lastActivityAtMs: nowMs,
      autoStopInterval: body.autoStopInterval ?? 15,
      autoDeleteInterval: body.autoDeleteInterval ?? -1,
      endedAtMs: undefined,
      idle: undefined,
    }
    this.records.set(id, record)
    const start = this.start(record).finally(() => this.starting.delete(start))
    this.starting.add(start)
    return record
  }

  /** Counts the lifetime anew from now; 0 for endless. */
  setTtl(record: SandboxRecord, minutes: number): void {
    record.destroyAtMs = minutes === 0 ? undefined : Date.now() + minutes * this.options.minuteMs
    this.host.setLifetime(record.id, minutes === 0 ? endlessMs : minutes * this.options.minuteMs)
  }

  /** API traffic puts off the automatic stop. What runs in the sandbox does not. */
  touch(record: SandboxRecord): void {
    record.lastActivityAtMs = Date.now()
    clearTimeout(record.idle)
    if (record.autoStopInterval === 0 || record.state !== 'started') return
    record.idle = setTimeout(() => void this.stop(record), record.autoStopInterval * this.options.minuteMs)
    record.idle.unref()
  }

  destroy(record: SandboxRecord): void {
    if (record.state === 'destroying' || record.state === 'destroyed') return
    record.state = 'destroying'
    clearTimeout(record.idle)
    // Also when it failed and the host knows nothing of it.
    void this.host.destroy(record.id, 'killed').then(() => this.end(record))
  }

  async close(): Promise<void> {
    this.closed = true
    await Promise.all(this.starting)
    for (const record of this.records.values()) clearTimeout(record.idle)
  }

  private async start(record: SandboxRecord): Promise<void> {
    if (this.options.startDelayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.options.startDelayMs))
    const failure = this.options.startFailure(record)
    if (failure !== undefined) {
      record.state = failure.state
      record.errorReason = failure.reason
      return
    }
    if (this.closed || record.state !== 'creating') return
    const lifetimeMs = record.destroyAtMs === undefined ? endlessMs : Math.max(record.destroyAtMs - Date.now(), 0)
    const { networkBlockAll, domainAllowList } = record.body
    const network = networkBlockAll === true || (domainAllowList !== undefined && this.options.enforcesNames) ? 'none' : 'open'
    try {
      await this.host.create({ id: record.id, details: record, lifetimeMs, network, onEnd: () => this.end(record) })
      record.state = 'started'
      this.touch(record)
    } catch (error) {
      record.state = 'error'
      record.errorReason = error instanceof Error ? error.message : String(error)
    }
  }

  private async stop(record: SandboxRecord): Promise<void> {
    if (record.state !== 'started') return
    if (record.autoDeleteInterval === 0) {
      this.destroy(record)
      return
    }
    record.state = 'stopped'
    await this.host.destroy(record.id, 'expired')
  }

  private end(record: SandboxRecord): void {
    if (record.state === 'stopped') return
    record.state = 'destroyed'
    record.endedAtMs ??= Date.now()
    clearTimeout(record.idle)
    const ended = [...this.records.values()].filter((other) => other.state === 'destroyed')
    if (ended.length > rememberedEnded && ended[0] !== undefined) this.records.delete(ended[0].id)
  }
}
