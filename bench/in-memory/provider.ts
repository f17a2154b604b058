import { createHash, randomUUID } from 'node:crypto'
import { InfrastructureError, type InfrastructureErrorKind } from '../../src/providers/index.js'
import type { CallOptions, Capabilities, ExecResult, Provider, SandboxInfo, SandboxRequest, ShellCommand } from '../../src/providers/provider.js'

interface Command {
  readonly startedAtMs: number
  /** Sooner once it is stopped. */
  endsAtMs: number
  /** Prints a line of 32 bytes so often; Infinity for never. */
  readonly lineEveryMs: number
  readonly exitCode: number
}

interface Sandbox {
  readonly info: SandboxInfo
  readonly commands: Map<string, Command>
  /** Calls that wait: each is ended with an error when the sandbox or the provider dies, and without one when there is something to be read. */
  readonly waiting: Set<(error?: Error) => void>
}

const line = 'x'.repeat(31) + '\n'

/**
 * A provider without machines, for measuring what Switchyard itself costs: sandboxes are entries in a map of this process, and
 * calls are answered at once, in the runner script's own words. Commands take their time for real: `sleep S` lasts S seconds,
 * and `# line every S` prints 32 bytes every S seconds meanwhile, `exit N` ends with that. Nothing is run, cloned or pushed.
 */
export class InMemoryProvider implements Provider {
  readonly kind = 'in-memory'
  readonly capabilities: Capabilities = {
    uniqueNames: false,
    extend: false,
    network: { gitOnly: false, none: false, allowList: false },
    resources: { cpu: false, memory: false, disk: false },
    maxLifetimeMs: undefined,
    maxCommandBytes: 1024 * 1024,
  }
  /** Set, every create fails with this kind. */
  refusesCreates: InfrastructureErrorKind | undefined
  private readonly sandboxes = new Map<string, Sandbox>()

  constructor(
    readonly name: string,
    private readonly watch: {
      readonly onCreateCall?: (provider: string, request: SandboxRequest) => void
      readonly onError?: (provider: string, tags: Readonly<Record<string, string>>) => void
      /** A sandbox came to be (+1) or is gone (-1). */
      readonly onChange?: (provider: string, change: 1 | -1) => void
    } = {},
  ) {}

  /** How many commands run now. */
  get running(): number {
    const nowMs = Date.now()
    return [...this.sandboxes.values()].filter(({ commands }) => [...commands.values()].some(({ endsAtMs }) => endsAtMs > nowMs)).length
  }

  async create(request: SandboxRequest): Promise<SandboxInfo> {
    this.watch.onCreateCall?.(this.name, request)
    if (this.refusesCreates !== undefined) {
      this.watch.onError?.(this.name, request.tags)
      throw new InfrastructureError({ kind: this.refusesCreates, source: this.name, message: `${this.name}: takes no sandboxes now` })
    }
    const info: SandboxInfo = { id: randomUUID(), name: request.name, tags: request.tags, createdAtMs: Date.now(), expiresAtMs: undefined }
    this.sandboxes.set(info.id, { info, commands: new Map(), waiting: new Set() })
    this.watch.onChange?.(this.name, 1)
    return info
  }

  async get(sandboxId: string): Promise<SandboxInfo | undefined> {
    return this.sandboxes.get(sandboxId)?.info
  }

  async exec(sandboxId: string, command: ShellCommand, options: CallOptions): Promise<ExecResult> {
    options.signal?.throwIfAborted()
    const sandbox = this.sandboxes.get(sandboxId)
    if (sandbox === undefined) throw this.lost(sandboxId)
    const upload = /upload-([0-9a-f]{16})/.exec(command.script)?.[1]
    const uploaded = upload === undefined ? '' : `@switchyard ${upload} done\n`
    const words = wordsOf(command.script)
    if (words === null) return { exitCode: 0, stdout: uploaded }
    const [nonce = '', verb = '', ...args] = words
    const lines = await this.answer(sandbox, verb, args, options.signal)
    return { exitCode: 0, stdout: uploaded + [`@switchyard ${nonce} begin`, 'ok -', ...lines, `@switchyard ${nonce} end`, ''].join('\n') }
  }

  async kill(sandboxId: string): Promise<void> {
    const sandbox = this.sandboxes.get(sandboxId)
    if (sandbox === undefined) return
    this.sandboxes.delete(sandboxId)
    this.watch.onChange?.(this.name, -1)
    for (const fail of sandbox.waiting) fail(this.lost(sandboxId))
  }

  /** What runs in a sandbox ends now, well. */
  finish(sandboxId: string): void {
    const sandbox = this.sandboxes.get(sandboxId)
    if (sandbox === undefined) throw this.lost(sandboxId)
    for (const command of sandbox.commands.values()) command.endsAtMs = Math.min(command.endsAtMs, Date.now())
    for (const end of sandbox.waiting) end()
  }

  /** Everything that waits fails at once, and every sandbox is gone. */
  die(kind: InfrastructureErrorKind): void {
    for (const [id, { info, waiting }] of this.sandboxes) {
      this.sandboxes.delete(id)
      this.watch.onChange?.(this.name, -1)
      for (const fail of waiting) {
        this.watch.onError?.(this.name, info.tags)
        fail(new InfrastructureError({ kind, source: this.name, message: `${this.name}: is down` }))
      }
    }
  }

  async *list(tags: Readonly<Record<string, string>>): AsyncGenerator<SandboxInfo> {
    for (const { info } of this.sandboxes.values()) {
      if (Object.entries(tags).every(([key, value]) => info.tags[key] === value)) yield info
    }
  }

  async extend(): Promise<undefined> {}

  async check(): Promise<readonly string[]> {
    return []
  }

  async close(): Promise<void> {}

  private async answer(sandbox: Sandbox, verb: string, args: readonly string[], signal: AbortSignal | undefined): Promise<string[]> {
    const sha = createHash('sha1').update(args.join()).digest('hex')
    switch (verb) {
      case 'probe':
        return ['git git version 2.47.0', `repository ${Buffer.from('/home/user/repository').toString('base64')}`, 'user agent']
      case 'start': {
        const [outOffset = '', , waitMs = '', , key = '', , run = ''] = args
        if (!sandbox.commands.has(key)) sandbox.commands.set(key, parseCommand(Buffer.from(run, 'base64').toString(), Date.now()))
        return this.read(sandbox, { key, outOffset: Number(outOffset), waitMs: Number(waitMs) }, signal)
      }
      case 'read': {
        const [key = '', outOffset = '', , waitMs = ''] = args
        return this.read(sandbox, { key, outOffset: Number(outOffset), waitMs: Number(waitMs) }, signal)
      }
      case 'stop': {
        const command = sandbox.commands.get(args[0] ?? '')
        if (command !== undefined) command.endsAtMs = Math.min(command.endsAtMs, Date.now())
        return []
      }
      case 'checkpoint':
      case 'commit':
        return [`sha ${sha}`, `head ${sha}`, 'ahead 1', 'descends 1', `plain ${sha}`, `plain-head ${sha}`, 'plain-ahead 1', 'paths 0', 'bytes 0', 'unsaved-more 0']
      case 'restore':
        return ['restored 0', 'paths 0']
      default:
        return []
    }
  }

  private async read(sandbox: Sandbox, request: { key: string; outOffset: number; waitMs: number }, signal: AbortSignal | undefined): Promise<string[]> {
    const command = sandbox.commands.get(request.key)
    if (command === undefined) throw new Error(`no command ${request.key} was started`)
    const offset = request.outOffset
    const nextLineAtMs = command.startedAtMs + (Math.floor(offset / line.length) + 1) * command.lineEveryMs
    const leftMs = Math.min(nextLineAtMs, command.endsAtMs, Date.now() + request.waitMs) - Date.now()
    if (leftMs > 0) await this.wait(sandbox, leftMs, signal)
    const nowMs = Date.now()
    const printed = Math.floor((Math.min(nowMs, command.endsAtMs) - command.startedAtMs) / command.lineEveryMs) * line.length
    const fresh = Math.max(0, printed - offset)
    const out = fresh > 0 ? ['out-skip 0', 'out:', Buffer.from(line.repeat(fresh / line.length)).toString('base64'), '.'] : []
    return [`code ${nowMs >= command.endsAtMs ? command.exitCode : '-'}`, `out-size ${printed}`, 'err-size 0', `out-length ${fresh}`, ...out, 'err-length 0']
  }

  private wait(sandbox: Sandbox, ms: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        sandbox.waiting.delete(onEnd)
      }
      const onEnd = (error?: Error) => {
        settle()
        if (error === undefined) resolve()
        else reject(error)
      }
      const onAbort = () => onEnd(signal?.reason instanceof Error ? signal.reason : new Error('aborted'))
      // Never a millisecond early by the clock that ends the command.
      const timer = setTimeout(() => {
        settle()
        resolve()
      }, Math.ceil(ms) + 1)
      signal?.addEventListener('abort', onAbort)
      sandbox.waiting.add(onEnd)
    })
  }

  private lost(sandboxId: string): InfrastructureError {
    return new InfrastructureError({ kind: 'sandbox-lost', source: this.name, message: `${this.name}: sandbox ${sandboxId} is gone` })
  }
}

/** The words of a call as `callText` (src/runner/script.ts) quotes them; null when the text holds no call. */
function wordsOf(script: string): string[] | null {
  if (!script.includes('"$f" ')) return null
  const words = script.slice(script.lastIndexOf('"$f" ') + 5)
  return [...words.matchAll(/'((?:[^']|'\\'')*)'/g)].map((match) => (match[1] ?? '').replaceAll(`'\\''`, "'"))
}

function parseCommand(run: string, startedAtMs: number): Command {
  const seconds = Number(/sleep ([\d.]+)/.exec(run)?.[1] ?? 0)
  const lineEverySeconds = Number(/# line every ([\d.]+)/.exec(run)?.[1] ?? Infinity)
  return { startedAtMs, endsAtMs: startedAtMs + seconds * 1000, lineEveryMs: lineEverySeconds * 1000, exitCode: Number(/\bexit (\d+)/.exec(run)?.[1] ?? 0) }
}
