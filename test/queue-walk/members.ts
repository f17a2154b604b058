import { inMemoryGitHost } from '../../bench/in-memory/git-host.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { errorMessage, RedisUnavailableError } from '../../src/job/errors.js'
import type { AgentQueue } from '../../src/producers/index.js'
import type { Random } from '../chaos/random.js'
import { budgetPeriodMs, by, perSandboxHour, type queueNames, sandboxesAtMost, secretName, settings } from './deployment.js'
import type { Journal } from './journal.js'
import { type Caller, phasedGitHost, phasedProvider, type Phases } from './phases.js'
import type { TroubledProvider } from './troubled-provider.js'
import { startWire, type Wire } from './wire.js'

/** What consumers of one deployment have that differ. */
export interface Kind {
  readonly queueName: (typeof queueNames)[number]
  readonly providers: readonly TroubledProvider[]
  readonly hasSecret: boolean
  readonly maxJobs: number
  /** The limit of each provider, by this one's configuration. */
  readonly sandboxes: number
}

interface Member {
  readonly kind: Kind
  readonly consumer: Consumer
  readonly wire: Wire
  /** Set once it was told to. */
  stopped?: Promise<void>
}

/** How long a consumer may take to stop whose way to Redis is there, in milliseconds. */
const stopPatienceMs = 30_000

/** The consumers of a walk: those that live, and those that are gone but whose processes may not know it yet. */
export class Members {
  private live: Member[] = []
  private readonly gone: Member[] = []

  constructor(
    private readonly redisUrl: URL,
    private readonly providers: readonly TroubledProvider[],
    private readonly budgets: boolean,
    /** Whether Redis may be away, or refuse writes. */
    private readonly refuses: boolean,
    private readonly journal: Journal,
    /** Where calls take a moment, and are held. */
    private readonly phases: Phases | undefined,
  ) {}

  /** One that may lack a provider, the secret, or room. */
  async startSome(queueName: Kind['queueName'], random: Random): Promise<void> {
    await this.start({
      queueName,
      providers: random.chance(0.25) ? [random.pick(this.providers)] : this.providers,
      hasSecret: random.chance(0.5),
      maxJobs: random.pick([1, 2, 3, 10]),
      sandboxes: random.pick([1, sandboxesAtMost, sandboxesAtMost]),
    })
  }

  /** One that can run all jobs of its queue. */
  async startWhole(queueName: Kind['queueName']): Promise<void> {
    await this.start({ queueName, providers: this.providers, hasSecret: true, maxJobs: 10, sandboxes: sandboxesAtMost })
  }

  /** Something happens to one: it dies for all that others can see, is cut off once, leaves as on SIGTERM, or is frozen. */
  async disturb(random: Random, freezes: boolean): Promise<void> {
    if (this.live.length === 0) return
    const member = random.pick(this.live)
    const what = freezes ? random.weighted({ freezes: 3, blinks: 2 }) : random.weighted({ dies: 50, leaves: 25, freezes: 15, blinks: 10 })
    this.journal.note('member', member.consumer.id, what)
    const pieces = random.whole(1, 30)
    const arrives = random.chance(0.5)
    switch (what) {
      case 'freezes':
        member.wire.freeze(random.pick([300, 1_800, 2_500, 4_000]))
        return
      case 'blinks':
        member.wire.cutAfter(pieces, { arrives, comesBack: true })
        return
      case 'dies':
        member.wire.cutAfter(pieces, { arrives, comesBack: false })
        break
      case 'leaves':
        this.stop(member).catch((error: unknown) => this.journal.note('stop failed', errorMessage(error)))
    }
    this.live = this.live.filter((each) => each !== member)
    this.gone.push(member)
    await new Promise((passed) => setTimeout(passed, random.whole(0, 600)))
    await this.startSome(member.kind.queueName, random)
  }

  /** Something happens to the one that has this id. */
  async disturbOne(id: string, random: Random, what: 'freezes' | 'dies' | 'leaves'): Promise<void> {
    const member = this.live.find(({ consumer }) => consumer.id === id)
    if (member === undefined) return
    this.journal.note('member', id, what)
    if (what === 'freezes') {
      member.wire.freeze(random.pick([300, 1_800, 2_500, 4_000]))
      return
    }
    if (what === 'dies') member.wire.cutAfter(random.whole(1, 3), { arrives: random.chance(0.5), comesBack: false })
    else this.stop(member).catch((error: unknown) => this.journal.note('stop failed', errorMessage(error)))
    this.live = this.live.filter((each) => each !== member)
    this.gone.push(member)
    await this.startSome(member.kind.queueName, random)
  }

  /** One is told to leave through Redis, and another comes. */
  async drainSome(random: Random, queue: AgentQueue): Promise<string | undefined> {
    if (this.live.length === 0) return undefined
    const member = random.pick(this.live)
    await queue.operations.drainConsumer(member.consumer.id, { by })
    this.live = this.live.filter((each) => each !== member)
    this.gone.push(member)
    await this.startSome(member.kind.queueName, random)
    return member.consumer.id
  }

  /** Some find another Redis at the address that they know. @returns leads all to a port. */
  lead(random: Random, port: number): (port: number) => void {
    const led = [...this.live, ...this.gone].filter(() => random.chance(0.5))
    for (const { wire } of led) wire.lead(port)
    return (other) => {
      for (const { wire } of [...this.live, ...this.gone]) wire.lead(other)
    }
  }

  /** Lets all find Redis again and stops them. @returns what came of those that did not stop well. */
  async close(): Promise<string[]> {
    const members = [...this.live, ...this.gone]
    const problems = await Promise.all(
      members.map(async (member) => {
        member.wire.mend()
        let timer: NodeJS.Timeout | undefined
        const late = new Promise<string>((passed) => (timer = setTimeout(() => passed(`did not stop within ${stopPatienceMs} ms`), stopPatienceMs)))
        const problem = await Promise.race([late, this.stop(member).then(() => undefined, (error: unknown) => `failed to stop: ${errorMessage(error)}`)])
        clearTimeout(timer)
        await member.wire.close()
        return problem === undefined ? [] : [`${member.consumer.id} (${this.gone.includes(member) ? 'it had died or left' : 'alive'}) ${problem}`]
      }),
    )
    return problems.flat()
  }

  private stop(member: Member): Promise<void> {
    return (member.stopped ??= member.consumer.stop())
  }

  private async start(kind: Kind): Promise<void> {
    const { queueName, providers, hasSecret, maxJobs, sandboxes } = kind
    const wire = await startWire(this.redisUrl)
    const caller: Caller = { id: '' }
    const { phases } = this
    const consumer = new Consumer({
      deployment: 'walk',
      redis: { url: wire.url },
      queue: { name: queueName },
      git: phases === undefined ? inMemoryGitHost : phasedGitHost(inMemoryGitHost, phases, caller),
      providers: providers.map((provider) => ({ provider: phases === undefined ? provider : phasedProvider(provider, phases, caller), limit: { sandboxes }, ...(this.budgets ? { price: { perSandboxHour } } : {}) })),
      ...(this.budgets ? { costs: { budgets: { t2: 0.01 } } } : {}),
      secrets: secretsFromEnvironment(hasSecret ? [secretName] : [], { [secretName]: 'a-secret-value' }),
      log: this.journal.log,
      tenants: { t1: { weight: 2, cap: 1 } },
      settings: { ...settings, ...(this.budgets ? { budgetPeriodMs } : {}), maxJobs },
    })
    caller.id = consumer.id
    try {
      await consumer.start()
    } catch (error) {
      await wire.close()
      // Redis freezes, or refuses writes.
      if (error instanceof RedisUnavailableError && this.refuses) return
      this.journal.faults.push(`a consumer did not start whose way to Redis was there: ${errorMessage(error)}`)
      return
    }
    this.journal.note('started', consumer.id, { queueName, maxJobs, hasSecret, providers: providers.map(({ name }) => name) })
    this.live.push({ kind, consumer, wire })
  }
}
