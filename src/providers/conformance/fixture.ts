import assert from 'node:assert/strict'
import { randomBytes, randomInt } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { InfrastructureError, type InfrastructureErrorKind } from '../../job/errors.js'
import { type CallOptions, type ExecResult, type Provider, type SandboxInfo, type SandboxRequest, sandboxTags, type ShellCommand } from '../provider.js'
import type { GitUnderTest } from './git-under-test.js'

export interface ProviderUnderTest {
  readonly provider: Provider
  /** Makes another client of the same account, as another consumer process has it. The suite closes it. */
  readonly another: () => Promise<Provider>
  /**
   * Counts the live processes whose arguments contain `marker`, from outside, where sandboxes run on this machine. Without it
   * the suite believes the provider that a killed sandbox is gone.
   */
  readonly countProcesses?: (marker: string) => Promise<number>
}

/** A program that makes the provider under test and calls `runConformanceClient` with it. */
export interface ClientProgram {
  readonly file: string
  readonly args: readonly string[]
  /** Its whole environment, but for what the suite tells it. */
  readonly env: Readonly<Record<string, string>>
}

export interface ConformanceCase {
  readonly name: string
  readonly run: (fixture: Fixture) => Promise<void>
}

interface Settings {
  readonly image: string | undefined
  readonly callTimeoutMs: number
  readonly manySandboxes: number
}

/** What the cases share: one provider, one deployment's name, and one sandbox for what does not need its own. */
export class Fixture {
  readonly provider: Provider
  readonly image: string | undefined
  readonly callTimeoutMs: number
  readonly manySandboxes: number
  readonly #run = randomBytes(4).toString('hex')
  readonly deployment = `conformance-${this.#run}`
  #counter = 0
  #shared: Promise<SandboxInfo> | undefined

  constructor(
    private readonly underTest: ProviderUnderTest,
    settings: Settings,
    private readonly gitUnderTest?: GitUnderTest,
    private readonly clientProgram?: () => ClientProgram,
  ) {
    this.provider = underTest.provider
    this.image = settings.image
    this.callTimeoutMs = settings.callTimeoutMs
    this.manySandboxes = settings.manySandboxes
  }

  /** Only cases that are defined with a git host ask for it. */
  git(): GitUnderTest {
    if (this.gitUnderTest === undefined) throw new Error('this case needs the option git')
    return this.gitUnderTest
  }

  /** Only the case that is defined with such a program asks for it. */
  client(): ClientProgram {
    if (this.clientProgram === undefined) throw new Error('this case needs the option client')
    return this.clientProgram()
  }

  /** A number of seconds to sleep that tells the case's own processes from all others of the machine, another run's too. */
  uniqueSeconds(): string {
    return String(7_000_000_000 + randomInt(1_000_000_000))
  }

  get options(): CallOptions {
    return { timeoutMs: this.callTimeoutMs }
  }

  /** A request with a name of its own, for a job of its own or the one named. */
  request(jobId = `job-${++this.#counter}`, changes: Partial<SandboxRequest> = {}): SandboxRequest {
    return {
      name: `conformance-${this.#run}-${++this.#counter}`,
      tags: sandboxTags({ deployment: this.deployment, runId: jobId, attempt: 1 }),
      image: this.image,
      resources: {},
      lifetimeMs: 600_000,
      network: 'open',
      gitHosts: this.gitUnderTest?.host.hosts ?? [],
      ...changes,
    }
  }

  create(jobId?: string, changes?: Partial<SandboxRequest>): Promise<SandboxInfo> {
    return this.provider.create(this.request(jobId, changes), this.options)
  }

  /** A sandbox of the case's own, killed at its end. */
  async withSandbox(run: (sandbox: SandboxInfo) => Promise<void>): Promise<void> {
    const sandbox = await this.create()
    try {
      await run(sandbox)
    } finally {
      await this.provider.kill(sandbox.id, this.options)
    }
  }

  /** The sandbox for cases that leave it as they found it. */
  shared(): Promise<SandboxInfo> {
    this.#shared ??= this.create('shared')
    return this.#shared
  }

  exec(sandbox: SandboxInfo, command: string | ShellCommand, options: Partial<CallOptions> = {}): Promise<ExecResult> {
    const shell = typeof command === 'string' ? { script: command } : command
    return this.provider.exec(sandbox.id, shell, { ...this.options, ...options })
  }

  /** Runs a command in the shared sandbox. */
  async sharedExec(command: string | ShellCommand, options: Partial<CallOptions> = {}): Promise<ExecResult> {
    return this.exec(await this.shared(), command, options)
  }

  async list(tags: Readonly<Record<string, string>> = { 'switchyard-deployment': this.deployment }): Promise<SandboxInfo[]> {
    const found: SandboxInfo[] = []
    for await (const sandbox of this.provider.list(tags, this.options)) found.push(sandbox)
    return found
  }

  async withAnother(run: (other: Provider) => Promise<void>): Promise<void> {
    const other = await this.underTest.another()
    try {
      await run(other)
    } finally {
      await other.close()
    }
  }

  /** Waits until no process bears the marker; nothing to wait for where processes can't be seen from outside. */
  async noProcessBears(marker: string): Promise<void> {
    const { countProcesses } = this.underTest
    if (countProcesses === undefined) return
    await eventually(async () => assert.equal(await countProcesses(marker), 0, 'processes of a killed sandbox are alive'))
  }

  async someProcessBears(marker: string): Promise<void> {
    const { countProcesses } = this.underTest
    if (countProcesses === undefined) return
    await eventually(async () => assert.notEqual(await countProcesses(marker), 0, 'the process was not seen from outside'))
  }

  /** Kills what cases left, says so when there is anything after that, and closes the provider. */
  async end(): Promise<void> {
    try {
      for (const sandbox of await this.list()) await this.provider.kill(sandbox.id, this.options)
      await eventually(async () => assert.deepEqual(await this.list(), [], 'sandboxes are listed that were killed'))
    } finally {
      await this.provider.close()
    }
  }
}

/** Repeats a check until it holds: providers' listings lag behind their other answers. */
export async function eventually(check: () => Promise<void>, withinMs = 20_000): Promise<void> {
  const end = Date.now() + withinMs
  for (;;) {
    try {
      await check()
      return
    } catch (error) {
      if (Date.now() >= end) throw error
      await sleep(100)
    }
  }
}

/** Asserts that a call fails with an error of the one vocabulary, of this kind and by this provider. */
export async function failsAs(kind: InfrastructureErrorKind, provider: Provider, call: Promise<unknown>): Promise<InfrastructureError> {
  const outcome = await call.then(
    () => assert.fail(`expected an error of the kind ${kind}, but the call succeeded`),
    (error: unknown) => error,
  )
  if (!(outcome instanceof InfrastructureError)) {
    throw new assert.AssertionError({ message: 'expected an InfrastructureError', actual: outcome, expected: kind })
  }
  assert.equal(outcome.kind, kind, `the error was: ${outcome.message}`)
  assert.equal(outcome.source, provider.name)
  return outcome
}
