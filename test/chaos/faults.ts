import { errorMessage } from '../../src/job/errors.js'
import type { AgentQueue } from '../../src/producers/index.js'
import { dataPlane, type PlannedFault } from './fault-plan.js'
import type { Fleet } from './fleet.js'
import { attackOf, enqueueHostile, type HostileJob } from './hostile-jobs.js'
import type { Timeline } from './timeline.js'
import type { World } from './world.js'

/** From a fault's beginning to its end; what it holds down. */
export interface FaultWindow {
  readonly kind: PlannedFault['kind']
  readonly provider: string | null
  readonly fromMs: number
  readonly toMs: number
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** Carries the plan out. Faults may overlap; the same thing is not broken twice at a time. */
export class FaultRunner {
  readonly windows: FaultWindow[] = []
  /** Faults of the harness itself: they make a run worthless. */
  readonly problems: string[] = []
  /** Sandboxes that died by a fault. */
  readonly killedSandboxes = new Set<string>()
  /** When the git host refused which repository, in milliseconds since 1970. */
  readonly refusals: { readonly repository: string; readonly fromMs: number; readonly toMs: number }[] = []
  readonly hostile: HostileJob[] = []
  private hostileBegun = 0
  private readonly busy = new Set<string>()
  private readonly underWay = new Set<Promise<void>>()

  constructor(
    private readonly world: World,
    private readonly fleet: Fleet,
    private readonly timeline: Timeline,
    private readonly queue: AgentQueue,
  ) {}

  /** Runs the whole plan; returns when the last fault is over and everything is up again. */
  async run(plan: readonly PlannedFault[]): Promise<void> {
    for (const fault of plan) {
      await sleep(Math.max(0, fault.atMs - this.timeline.now()))
      const done = this.strike(fault).catch((error: unknown) => void this.problems.push(`fault ${fault.kind} could not be made or undone: ${errorMessage(error)}`))
      this.underWay.add(done)
      void done.finally(() => this.underWay.delete(done))
    }
    await Promise.all(this.underWay)
    for (const server of this.world.servers) await server.clearFaults()
  }

  private async strike(fault: PlannedFault): Promise<void> {
    const fromMs = this.timeline.now()
    const provider = 'provider' in fault ? fault.provider : null
    const target = targetOf(fault)
    if (target !== null && this.busy.has(target)) {
      this.timeline.add('fault-left-out', { kind: fault.kind, target })
      return
    }
    if (target !== null) this.busy.add(target)
    try {
      const hit = await this.carryOut(fault)
      this.timeline.add('fault-over', { kind: fault.kind, provider, fromMs, hit })
    } finally {
      if (target !== null) this.busy.delete(target)
      this.windows.push({ kind: fault.kind, provider, fromMs, toMs: this.timeline.now() })
    }
  }

  /** Returns what was hit, for the timeline. */
  private async carryOut(fault: PlannedFault): Promise<string | null> {
    const { world, fleet, timeline } = this
    timeline.add('fault', { ...fault })
    switch (fault.kind) {
      case 'kill-consumer':
        return fleet.kill(fault.pick)
      case 'stop-consumer':
        return fleet.stop(fault.pick)
      case 'freeze-consumer': {
        const frozen = fleet.freeze(fault.pick, fault.forMs)
        if (frozen !== null) await sleep(fault.forMs)
        return frozen
      }
      case 'stale-key': {
        const changed = await fleet.staleKey(fault.pick)
        await sleep(fault.forMs)
        await changed?.restore()
        return changed?.name ?? null
      }
      case 'narrow-consumer': {
        const replaced = fleet.narrow(fault.pick, fault.provider)
        await sleep(fault.forMs)
        fleet.widen()
        return replaced
      }
      case 'restart-redis':
        await world.redis.kill('SIGKILL')
        await sleep(fault.awayMs)
        await world.redis.restart()
        return 'redis'
      case 'freeze-redis':
        world.redis.freeze()
        await sleep(fault.forMs)
        world.redis.thaw()
        return 'redis'
      case 'provider-down': {
        const server = this.server(fault.provider)
        await server.setDown(fault.how)
        await sleep(fault.forMs)
        await server.setDown('up')
        return fault.provider
      }
      case 'provider-faults':
        await this.server(fault.provider).addFaults(fault.faults)
        return fault.provider
      case 'kill-sandbox':
        return this.noteKilled(await this.killSandbox(fault.provider, fault.pick))
      case 'git-outage':
        world.storage().setOutage({ kind: fault.how, of: fault.of })
        await sleep(fault.forMs)
        world.storage().setOutage(null)
        return 'git'
      case 'restart-git':
        await world.restartStorage(fault.awayMs)
        return 'git'
      case 'refuse-repository': {
        const fromMs = Date.now()
        world.storage().setOutage({ kind: 'forbid', repository: fault.repository })
        await sleep(fault.forMs)
        world.storage().setOutage(null)
        this.refusals.push({ repository: fault.repository, fromMs, toMs: Date.now() })
        return fault.repository
      }
      case 'data-plane-outage': {
        const server = this.server(fault.provider)
        const { calls, status } = dataPlane[fault.provider] ?? { calls: [], status: 502 }
        await server.addFaults(calls.map((call) => ({ call, times: 0, action: 'status' as const, status })))
        await sleep(fault.forMs)
        await server.clearFaults()
        return fault.provider
      }
      case 'hostile-job': {
        const attack = attackOf(fault.pick)
        // Several may be under way.
        this.hostileBegun += 1
        this.hostile.push(await enqueueHostile(this.queue, attack, this.hostileBegun, world.repositories))
        return attack.name
      }
      case 'consumer-clock': {
        const stepped = fleet.stepClock(fault.pick, fault.byMs)
        await sleep(fault.forMs)
        stepped?.restore()
        return stepped?.name ?? null
      }
      case 'redis-clock':
        if (world.redisClock === null) return null
        await world.redisClock.step(fault.byMs)
        await sleep(fault.forMs)
        await world.redisClock.step(0)
        return 'redis'
      case 'slow-disk':
        await world.disk.slow(fault.byMs)
        await sleep(fault.forMs)
        await world.disk.restore()
        return 'disk'
    }
  }

  private server(name: string) {
    const server = this.world.servers.find((one) => one.name === name)
    if (server === undefined) throw new Error(`no server of ${name}`)
    return server
  }

  private noteKilled(id: string | null): string | null {
    if (id !== null) this.killedSandboxes.add(id)
    return id
  }

  private async killSandbox(provider: string, pick: number): Promise<string | null> {
    const { local } = this.world
    if (local !== null && local.provider.name === provider) {
      const ids: string[] = []
      for await (const { id } of local.provider.list({}, { timeoutMs: 60_000 })) ids.push(id)
      const id = ids.sort()[Math.floor(pick * ids.length)]
      if (id !== undefined) await local.provider.kill(id, { timeoutMs: 60_000 })
      return id ?? null
    }
    const server = this.server(provider)
    const { sandboxes } = await server.state()
    const id = sandboxes[Math.floor(pick * sandboxes.length)]?.id
    if (id !== undefined) await server.killSandbox(id)
    return id ?? null
  }
}

function targetOf(fault: PlannedFault): string | null {
  switch (fault.kind) {
    case 'restart-redis':
    case 'freeze-redis':
      return 'redis'
    case 'git-outage':
    case 'restart-git':
    case 'refuse-repository':
      return 'git'
    // One at a time: some consumer's clock is always right.
    case 'consumer-clock':
      return 'clock'
    case 'redis-clock':
      return 'redis'
    case 'slow-disk':
      return 'disk'
    // One at a time, so that some consumer always has every provider.
    case 'narrow-consumer':
      return 'configuration'
    case 'provider-down':
    case 'data-plane-outage':
      return fault.provider
    default:
      return null
  }
}
