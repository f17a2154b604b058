import { setTimeout as pause } from 'node:timers/promises'
import { InMemoryProvider } from '../../bench/in-memory/provider.js'
import { InfrastructureError, type InfrastructureErrorKind } from '../../src/job/errors.js'
import type { CallOptions, ExecResult, SandboxInfo, SandboxRequest, ShellCommand } from '../../src/providers/provider.js'
import type { Random } from '../chaos/random.js'

/** What can be wrong with a provider for a while. */
export const troubles = {
  /** Creates are refused: the account has no more, too many calls, or it is down. */
  'is full': {},
  'is asked too often': {},
  'is down': {},
  /** Creates take their time, or never answer; or the sandbox is made and the answer lost. */
  'is slow': {},
  'hangs': {},
  'loses answers': {},
  /** Calls into sandboxes, kills or listings fail, and sandboxes live on. */
  'reaches no sandbox': {},
  'kills nothing': {},
  'lists nothing': {},
} as const
export type Trouble = keyof typeof troubles
export const troubleNames = Object.keys(troubles) as Trouble[]

/** The in-memory provider, with what goes wrong at real ones. */
export class TroubledProvider extends InMemoryProvider {
  trouble: Trouble | undefined
  /** How many sandboxes there were at most at one time. */
  most = 0
  private living = new Map<string, string>()

  constructor(
    name: string,
    private readonly note: (...what: readonly unknown[]) => void,
  ) {
    super(name)
  }

  override async create(request: SandboxRequest, options?: CallOptions): Promise<SandboxInfo> {
    const { trouble } = this
    const signal = options?.signal ?? undefined
    if (trouble === 'is full') throw this.error('capacity', 'no sandboxes are left')
    if (trouble === 'is asked too often') throw this.error('rate-limited', 'too many calls', { retryAfterMs: 200 })
    if (trouble === 'is down') throw this.error('provider-down', 'bad gateway (502)')
    if (trouble === 'hangs') await pause(options?.timeoutMs ?? 60_000, undefined, { signal })
    if (trouble === 'is slow') await pause(700, undefined, { signal })
    const info = await super.create(request)
    this.living.set(info.id, request.name)
    this.most = Math.max(this.most, this.living.size)
    this.note('sandbox made', this.name, info.id, request.name, 'beside', [...this.living.values()])
    if (trouble === 'loses answers') throw this.error('transient', 'the connection was reset', { sandboxMayExist: true })
    return info
  }

  override async exec(sandboxId: string, command: ShellCommand, options: CallOptions): Promise<ExecResult> {
    if (this.trouble === 'reaches no sandbox' && this.living.has(sandboxId)) throw this.error('transient', 'bad gateway (502)')
    return await super.exec(sandboxId, command, options)
  }

  override async kill(sandboxId: string): Promise<void> {
    if (this.trouble === 'kills nothing') throw this.error('transient', 'bad gateway (502)')
    await super.kill(sandboxId)
    if (this.living.delete(sandboxId)) this.note('sandbox killed', this.name, sandboxId)
  }

  override async *list(tags: Readonly<Record<string, string>>): AsyncGenerator<SandboxInfo> {
    if (this.trouble === 'lists nothing') throw this.error('transient', 'bad gateway (502)')
    yield* super.list(tags)
  }

  override die(kind: InfrastructureErrorKind): void {
    this.note('sandboxes died', this.name)
    super.die(kind)
    this.living.clear()
  }

  /** One sandbox dies, and whoever uses it learns so. @returns which. */
  async loseOne(random: Random): Promise<string | undefined> {
    if (this.living.size === 0) return undefined
    const id = random.pick([...this.living.keys()])
    await super.kill(id)
    this.living.delete(id)
    return id
  }

  private error(kind: InfrastructureErrorKind, message: string, more: { retryAfterMs?: number; sandboxMayExist?: boolean } = {}): InfrastructureError {
    return new InfrastructureError({ kind, source: this.name, message: `${this.name}: ${message}`, ...more })
  }
}
