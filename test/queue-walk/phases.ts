import { setTimeout as pause } from 'node:timers/promises'
import type { GitHost } from '../../src/git/host.js'
import type { Provider, ShellCommand } from '../../src/providers/provider.js'
import type { Random } from '../chaos/random.js'
import type { TroubledProvider } from './troubled-provider.js'

/** What a consumer calls in the course of a job: where something can come in between. */
export const points = ['create', 'probe', 'clone', 'start', 'read', 'stop', 'checkpoint', 'push-checkpoint', 'restore', 'commit', 'push', 'diff', 'promote', 'kill'] as const
export type Point = (typeof points)[number]

/** A call that stands still, as long as nobody lets it go. */
export interface Caught {
  readonly runId: string
  readonly point: Point
  readonly when: 'before' | 'after'
  /** The consumer that makes it. */
  readonly holder: string
}

/** What a run does at the git host, and when it began, in milliseconds of this process: it fetches what it is to build on, or moves a branch that others see. */
export interface Write {
  readonly runId: string
  readonly branch: string
  readonly repository: string
  readonly what: 'clone' | 'push' | 'promote'
  readonly beganAt: number
}

interface Trap {
  readonly point: Point
  readonly when: 'before' | 'after'
  readonly runId: string
  readonly spring: (caught: Caught) => Promise<void>
}

/** Whatever consumers call at providers and at the git host goes through here: it takes a moment, and may be held while something is done to its job. */
export class Phases {
  readonly writes: Write[] = []
  /** Whose each sandbox is, and each branch that was pushed. */
  readonly sandboxes = new Map<string, string>()
  readonly branches = new Map<string, string>()
  private traps: Trap[] = []
  private calm = false

  constructor(
    private readonly random: Random,
    private readonly note: (...what: readonly unknown[]) => void,
  ) {}

  /** How long a sandbox may live that is made now; undefined for one without an end. */
  lifeMs(): number | undefined {
    return this.calm || this.random.chance(0.4) ? undefined : this.random.pick(lifetimesMs)
  }

  settle(): void {
    this.calm = true
    this.traps = []
  }

  /** What is done once such a call is made for a job; it stands still meanwhile. @returns false where none came in time. */
  async at({ point, when, runId }: Pick<Caught, 'point' | 'when' | 'runId'>, patienceMs: number, does: (caught: Caught) => Promise<void>): Promise<boolean> {
    let caught = false
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        this.traps = this.traps.filter((each) => each !== trap)
        resolve()
      }, patienceMs)
      const trap: Trap = {
        point,
        when,
        runId,
        spring: async (found) => {
          caught = true
          clearTimeout(timer)
          this.note('caught', found.runId, when, point, 'of', found.holder)
          try {
            await does(found)
          } finally {
            this.note('let go', found.runId, when, point)
            resolve()
          }
        },
      }
      this.traps.push(trap)
    })
    return caught
  }

  async around<Answer>(point: Point, job: { readonly runId: string; readonly holder: string }, work: () => Promise<Answer>): Promise<Answer> {
    await this.meet(point, 'before', job)
    if (!this.calm && point !== 'read') await pause(this.random.whole(0, 40))
    const answer = await work()
    await this.meet(point, 'after', job)
    return answer
  }

  wrote(write: Omit<Write, 'beganAt'>): void {
    if (write.what === 'push') this.branches.set(write.branch, write.runId)
    this.writes.push({ ...write, beganAt: performance.now() })
    this.note('writes', write.branch, write.repository, write.what)
  }

  private async meet(point: Point, when: 'before' | 'after', job: { readonly runId: string; readonly holder: string }): Promise<void> {
    const trap = this.traps.find((each) => each.point === point && each.when === when && each.runId === job.runId)
    if (trap === undefined) return
    this.traps = this.traps.filter((each) => each !== trap)
    await trap.spring({ ...job, point, when })
  }
}

const known: ReadonlySet<string> = new Set(points)

function isPoint(name: string): name is Point {
  return known.has(name)
}

interface RunnerCall {
  readonly point: Point
  readonly branch: string
  readonly repository: string
}

/** Which call it is; undefined for one at which nothing is tried. */
function callOf({ script }: ShellCommand): RunnerCall | undefined {
  const [, verb = '', args = ''] = /'[0-9a-f]{16}' '([a-z]+)'(.*)/s.exec(script) ?? []
  const branch = /'((?:agent|checkpoint)\/[^']*)'/.exec(args)?.[1] ?? ''
  const repository = /'https:\/\/git\.invalid\/([^']*)\.git'/.exec(args)?.[1] ?? ''
  const point = verb === 'push' && branch.startsWith('checkpoint/') ? 'push-checkpoint' : verb
  return isPoint(point) ? { point, branch, repository } : undefined
}

/** A consumer's, by whose id it may be held. */
export interface Caller {
  id: string
}

/** How long a sandbox lives that can't be extended, in milliseconds: steps with `resume` move before that. */
const lifetimesMs = [1_500, 3_000, 6_000] as const

export function phasedProvider(provider: TroubledProvider, phases: Phases, caller: Caller): Provider {
  const changes: Partial<Provider> = {
    create: async (request, options) => {
      const runId = request.tags['switchyard-job'] ?? ''
      return await phases.around('create', { runId, holder: caller.id }, async () => {
        options.signal?.throwIfAborted()
        const info = await provider.create(request, options)
        phases.sandboxes.set(info.id, runId)
        const lifeMs = phases.lifeMs()
        if (lifeMs === undefined) return info
        setTimeout(() => void provider.kill(info.id).catch(() => undefined), lifeMs).unref()
        return { ...info, lifetimeEndsAtMs: Date.now() + lifeMs }
      })
    },
    exec: async (sandboxId, command, options) => {
      const call = callOf(command)
      const runId = phases.sandboxes.get(sandboxId)
      if (call === undefined || runId === undefined) return await provider.exec(sandboxId, command, options)
      return await phases.around(call.point, { runId, holder: caller.id }, () => {
        options.signal?.throwIfAborted()
        if (call.point === 'push' || call.point === 'clone') phases.wrote({ runId, branch: call.branch, repository: call.repository, what: call.point })
        return provider.exec(sandboxId, command, options)
      })
    },
    kill: async (sandboxId, options) => {
      const runId = phases.sandboxes.get(sandboxId) ?? ''
      await phases.around('kill', { runId, holder: caller.id }, () => {
        options.signal?.throwIfAborted()
        return provider.kill(sandboxId)
      })
    },
  }
  return new Proxy<Provider>(provider, {
    get(_target, key) {
      if (Object.hasOwn(changes, key)) return Reflect.get(changes, key) as unknown
      const value: unknown = Reflect.get(provider, key, provider)
      return typeof value === 'function' ? (value.bind(provider) as unknown) : value
    },
  })
}

/** A consumer's git host: it holds nothing, and each repository has an address of its own. */
export function phasedGitHost(host: GitHost, phases: Phases, caller: Caller): GitHost {
  const ofBranch = (branch: string) => ({ runId: phases.branches.get(branch) ?? '', holder: caller.id })
  return {
    ...host,
    diff: (repository, request, options) => phases.around('diff', ofBranch(request.branch), () => host.diff(repository, request, options)),
    promote: (request, options) =>
      phases.around('promote', ofBranch(request.branch), () => {
        options.signal?.throwIfAborted()
        phases.wrote({ runId: ofBranch(request.branch).runId, branch: request.branch, repository: request.repository, what: 'promote' })
        return host.promote(request, options)
      }),
    readAccess: async (repository, options) => ({ ...(await host.readAccess(repository, options)), url: `https://git.invalid/${repository}.git` }),
    writeAccess: async (repository, options) => ({ ...(await host.writeAccess(repository, options)), url: `https://git.invalid/${repository}.git` }),
  }
}
