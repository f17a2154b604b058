import { randomBytes } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { InfrastructureError } from '../job/errors.js'
import type { ExecResult, Provider } from '../providers/provider.js'
import { numberField, parseAnswer, textField, type Answer } from './answer.js'
import { runnerFailure, unfitImage, type FailureContext } from './failures.js'
import { gitIn, installPackages, lackingIn, type Package } from './packages.js'
import { lookOnly, outputSlice, readArguments, readMarginMs } from './reading.js'
import { bringPack, sendPack } from './packs.js'
import type { InstallOptions, OutputSlice, ReadRequest, Runner, RunnerCallOptions, SandboxAccess, SandboxFacts, StepCommand } from './runner.js'
import { callText, isAbsent, runnerScript, scriptDigest, uploadPieceBytes, uploadTexts } from './script.js'

/** What the runner needs of a provider. */
export type RunnerProvider = Pick<Provider, 'name' | 'capabilities' | 'exec'>

export interface RunnerOptions {
  readonly provider: RunnerProvider
  readonly sandboxId: string
  /** The sandbox's image or template, for messages. */
  readonly image?: string | undefined
  /** How often a call is tried when it fails with `transient`, the first time included. Default 4. */
  readonly tries?: number | undefined
  /** How long to wait before try 2, 3, …, in milliseconds. Default 200, 400, 800, … */
  readonly backoffMs?: ((failedTries: number) => number) | undefined
  /** Waits; rejects when the signal aborts. For tests. */
  readonly sleep?: ((ms: number, signal: AbortSignal | undefined) => Promise<void>) | undefined
  /** Milliseconds, for deadlines. Default `Date.now`. */
  readonly now?: (() => number) | undefined
}

/** Linux takes no longer argument and no longer environment entry than 128 KiB, whatever the provider takes. */
const maxEntryBytes = 128 * 1024 - 256

const keyPattern = /^[A-Za-z0-9][A-Za-z0-9.-]{0,199}$/
const environmentName = /^[A-Za-z_][A-Za-z0-9_]*$/
const shaPattern = /^[0-9a-f]{40}$/

interface Call {
  readonly verb: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly secrets?: readonly string[]
}

/**
 * The runner's client for one sandbox. It holds no state but what it was made with, so any number of them, in any number
 * of consumers, may serve the same sandbox.
 *
 * Every method throws only `InfrastructureError` (or the reason of an aborted signal). `transient` errors were tried again
 * before, within the call's `timeoutMs`; a provider that did not answer in time counts as one of them, never as the job's
 * own `timeout`. No message holds a secret.
 */
export function createRunner(options: RunnerOptions): Runner {
  return new SandboxRunner(options)
}

class SandboxRunner implements Runner {
  readonly #options: RunnerOptions
  readonly #now: () => number
  readonly #maxTextBytes: number

  constructor(options: RunnerOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#maxTextBytes = Math.min(options.provider.capabilities.maxCommandBytes, maxEntryBytes)
  }

  async install(options: InstallOptions): Promise<SandboxFacts> {
    const call: Call = { verb: 'probe', args: [] }
    const probe = () => this.#retried(call, options, (left) => this.#installWith(call, left))
    let answer = await probe()
    const tool = answer.fields.get('missing')
    if (tool !== undefined) throw unfitImage(this.#context(call), tool)
    const lacking = lackingIn(answer, options.certificates)
    let installed: string | null = null
    if (lacking.length > 0) {
      const manager = await this.#provide(call, lacking, options)
      installed = `${lacking.join(' and ')} with ${manager}`
      answer = await probe()
      const still = lackingIn(answer, options.certificates)[0]
      if (still !== undefined) throw unfitImage(this.#context(call), still, `${manager} installed it, but not where it is found`)
    }
    const home = Buffer.from(answer.fields.get('home') ?? '', 'base64').toString()
    return { repositoryPath: `${home}/repository`, gitVersion: gitIn(answer) ?? '', user: answer.fields.get('user') ?? '', installed }
  }

  /** Installs what the image lacks. @returns the package manager's name. */
  async #provide(call: Call, lacking: readonly Package[], { packages, signal }: InstallOptions): Promise<string> {
    const missing = lacking[0] ?? 'git'
    if (packages?.install !== true) throw unfitImage(this.#context(call), missing, packages?.because)
    // Steps run in the work tree; the clone, which comes later, begins with an empty one.
    const bounds = { timeoutMs: packages.timeoutMs, signal }
    await this.#retried({ verb: 'install', args: [] }, bounds, async (left) => {
      await this.#exec('mkdir -p "$HOME/repository"', undefined, left)
      return { failure: undefined, fields: new Map(), blobs: new Map() }
    })
    const installation = await installPackages(this, lacking, bounds, this.#now)
    if (!installation.ok) throw unfitImage(this.#context(call), missing, installation.because)
    return installation.manager
  }

  async clone(request: Parameters<Runner['clone']>[0], options: RunnerCallOptions): Promise<void> {
    const { access, ref, sha, branch, checkpoint, pack } = request
    this.#checkSha('sha', sha)
    if (checkpoint !== null) this.#checkSha('checkpoint.headSha', checkpoint.headSha)
    const args = [access.url, sha, branch, ref ?? '-', checkpoint?.headSha ?? '-', String(checkpoint?.commitsAhead ?? 0), pack?.name ?? '-']
    const call: Call = { verb: 'clone', args, ...withAccess(access) }
    const deadline = this.#now() + options.timeoutMs
    if (pack !== undefined) {
      // Many calls at once listen to it: Node takes more than ten listeners on one signal for a leak.
      const signal = AbortSignal.any(options.signal === undefined ? [] : [options.signal])
      setMaxListeners(0, signal)
      await sendPack(pack, {
        pieceBytes: uploadPieceBytes(this.#maxTextBytes),
        put: (id, text) => this.#again(call, this.#until(deadline, { ...options, signal }), (left) => this.#put(call, id, text, left)),
      })
    }
    await this.#call(call, this.#until(deadline, options))
  }

  async start(command: StepCommand, options: RunnerCallOptions, read: ReadRequest = lookOnly): Promise<OutputSlice> {
    this.#checkKey(command.key)
    const env: Record<string, string> = {}
    for (const [name, value] of Object.entries(command.env)) {
      if (!environmentName.test(name)) throw this.#invalid(`env: "${name}" is no name of an environment variable`)
      const bytes = Buffer.byteLength(value) + Buffer.byteLength(name)
      if (bytes > maxEntryBytes) {
        throw this.#invalid(`env.${name} is ${bytes} bytes; no process can be given more than ${maxEntryBytes} in one variable, so put it into a file`)
      }
      env[`SWITCHYARD_ENV_${name}`] = value
    }
    const args = (run: string) => [...readArguments(read, options), command.key, command.cwd ?? '', run, ...Object.keys(command.env)]
    const inline = args(Buffer.from(command.run).toString('base64'))
    const short = Buffer.byteLength(callText('0'.repeat(16), 'start', inline)) <= this.#maxTextBytes
    const call: Call = { verb: 'start', args: short ? inline : args('-'), env }
    const answer = await this.#retried(call, options, async (left) => {
      if (!short) await this.#upload(call, `${command.key}.run`, Buffer.from(command.run), left)
      return this.#onceInstalled(call, left)
    })
    return outputSlice(answer, read)
  }

  async read(key: string, request: ReadRequest, options: RunnerCallOptions): Promise<OutputSlice> {
    this.#checkKey(key)
    const args = readArguments(request, options)
    const call: Call = { verb: 'read', args: [key, ...args] }
    const answer = await this.#retried(call, options, (left) =>
      this.#onceInstalled(call, { ...left, timeoutMs: Math.min(left.timeoutMs, Number(args[2]) + readMarginMs) }),
    )
    return outputSlice(answer, request)
  }

  async stop(key: string, graceMs: number, options: RunnerCallOptions): Promise<void> {
    this.#checkKey(key)
    await this.#call({ verb: 'stop', args: [key, String(Math.round(graceMs))] }, options)
  }

  async checkpoint(request: Parameters<Runner['checkpoint']>[0], options: RunnerCallOptions): ReturnType<Runner['checkpoint']> {
    const { access, branch, parent, baseSha, identity, message } = request
    this.#checkSha('parent', parent)
    this.#checkSha('baseSha', baseSha)
    const args = [access?.url ?? '-', branch, parent, baseSha, ...[identity.name, identity.email, message].map(encode)]
    const answer = await this.#call({ verb: 'checkpoint', args, ...(access === null ? {} : withAccess(access)) }, options)
    if (answer.fields.has('none')) return null
    return { sha: textField(answer, 'sha'), headSha: textField(answer, 'head'), commitsAhead: numberField(answer, 'ahead') }
  }

  async commit(request: Parameters<Runner['commit']>[0], options: RunnerCallOptions): ReturnType<Runner['commit']> {
    const { author, committer } = request
    const people = [author.name, author.email, committer.name, committer.email].map(encode)
    const answer = await this.#call({ verb: 'commit', args: [...people, String(request.dateSeconds), encode(request.message)] }, options)
    return { sha: textField(answer, 'sha'), headSha: textField(answer, 'head') }
  }

  async push(request: Parameters<Runner['push']>[0], options: RunnerCallOptions): Promise<void> {
    this.#checkSha('sha', request.sha)
    await this.#call({ verb: 'push', args: [request.access.url, request.branch, request.sha], ...withAccess(request.access) }, options)
  }

  async pack(request: Parameters<Runner['pack']>[0], options: RunnerCallOptions): ReturnType<Runner['pack']> {
    for (const field of ['sha', 'baseSha', 'parentSha'] as const) this.#checkSha(field, request[field])
    const deadline = this.#now() + options.timeoutMs
    return bringPack(request, {
      source: this.#options.provider.name,
      call: (verb, args) => this.#call({ verb, args }, this.#until(deadline, options)),
    })
  }

  #call(call: Call, options: RunnerCallOptions): Promise<Answer> {
    return this.#retried(call, options, (left) => this.#onceInstalled(call, left))
  }

  #retried(call: Call, options: RunnerCallOptions, attempt: (left: RunnerCallOptions) => Promise<Answer>): Promise<Answer> {
    return this.#again(call, options, async (left) => {
      const answer = await attempt(left)
      if (answer.failure === undefined || answer.failure === 'no-step') return answer
      throw runnerFailure(answer.failure, answer.blobs.get('detail')?.toString() ?? '', this.#context(call))
    })
  }

  /** Tries again after `transient`, as long as tries and time are left. */
  async #again<Result>(call: Call, options: RunnerCallOptions, attempt: (left: RunnerCallOptions) => Promise<Result>): Promise<Result> {
    const tries = this.#options.tries ?? 4
    const backoffMs = this.#options.backoffMs ?? ((failedTries: number) => 200 * 2 ** (failedTries - 1))
    const sleep = this.#options.sleep ?? ((ms: number, signal: AbortSignal | undefined) => delay(ms, undefined, { signal }))
    const deadline = this.#now() + options.timeoutMs
    for (let failed = 1; ; failed += 1) {
      options.signal?.throwIfAborted()
      try {
        return await attempt(this.#until(deadline, options))
      } catch (thrown) {
        const error = this.#asTransient(call, thrown)
        const waitMs = backoffMs(failed)
        const again = error instanceof InfrastructureError && error.kind === 'transient' && failed < tries && this.#now() + waitMs < deadline
        if (!again) throw error
        await sleep(waitMs, options.signal).catch((reason: unknown) => {
          options.signal?.throwIfAborted()
          throw reason
        })
      }
    }
  }

  #until(deadline: number, { signal }: RunnerCallOptions): RunnerCallOptions {
    return { timeoutMs: Math.max(1, deadline - this.#now()), signal }
  }

  /** A provider that did not answer in time is no end of the job's own time. */
  #asTransient(call: Call, error: unknown): unknown {
    if (!(error instanceof InfrastructureError) || error.kind !== 'timeout') return error
    return new InfrastructureError({
      kind: 'transient',
      source: error.source,
      message: `${error.source}: ${call.verb} did not end in time in the sandbox`,
      cause: error,
    })
  }

  /** Makes a call, and installs the script first when it is missing or was changed. */
  async #onceInstalled(call: Call, options: RunnerCallOptions): Promise<Answer> {
    try {
      return await this.#once(call, options)
    } catch (error) {
      if (!(error instanceof ScriptAbsent)) throw error
    }
    return this.#installWith(call, options)
  }

  /** Puts the script into the sandbox and makes the first call of it, together where both fit into one command. */
  async #installWith(call: Call, options: RunnerCallOptions): Promise<Answer> {
    const deadline = this.#now() + options.timeoutMs
    const first = this.#text(call)
    const install: Call = { verb: 'install', args: [] }
    const result = await this.#upload(install, `runner-${scriptDigest.slice(0, 12)}.sh`, Buffer.from(runnerScript), options, { text: first.text, env: call.env })
    try {
      if (result === undefined) return await this.#once(call, this.#until(deadline, options))
      return this.#answer(call, first.nonce, result)
    } catch (error) {
      if (!(error instanceof ScriptAbsent)) throw error
      throw this.#transient(call, 'the runner disappears from the sandbox as soon as it is installed')
    }
  }

  async #once(call: Call, options: RunnerCallOptions): Promise<Answer> {
    const { nonce, text } = this.#text(call)
    return this.#answer(call, nonce, await this.#exec(text, call.env, options))
  }

  #text(call: Call): { readonly nonce: string; readonly text: string } {
    const nonce = randomBytes(8).toString('hex')
    const text = callText(nonce, call.verb, call.args)
    const bytes = Buffer.byteLength(text)
    if (bytes > this.#maxTextBytes) {
      throw this.#invalid(`${call.verb}: its arguments are ${bytes} bytes and the provider takes ${this.#maxTextBytes}; shorten the message or the names of the variables`)
    }
    return { nonce, text }
  }

  #answer(call: Call, nonce: string, result: ExecResult): Answer {
    const answer = parseAnswer(result.stdout, nonce)
    if (answer !== undefined) return answer
    if (isAbsent(result.stdout, nonce)) throw new ScriptAbsent()
    throw this.#unanswered(call, result)
  }

  /**
   * @param next a command to run right after it, in the same call.
   * @returns that call's result; undefined without `next`, or when the two were too long together and `next` was not run.
   */
  async #upload(
    call: Call,
    name: string,
    content: Buffer,
    options: RunnerCallOptions,
    next?: { readonly text: string; readonly env: Call['env'] },
  ): Promise<ExecResult | undefined> {
    const id = randomBytes(8).toString('hex')
    const deadline = this.#now() + options.timeoutMs
    const texts = uploadTexts(name, content, id, this.#maxTextBytes)
    // In a subshell, so that it ends without ending what comes after it.
    const joined = next === undefined ? undefined : `(${texts.at(-1) ?? ''}\n)\n${next.text}`
    const together = joined !== undefined && Buffer.byteLength(joined) <= this.#maxTextBytes ? joined : undefined
    let last: ExecResult | undefined
    for (const [index, text] of texts.entries()) {
      const withNext = index === texts.length - 1 ? together : undefined
      const result = await this.#put(call, id, withNext ?? text, this.#until(deadline, options), withNext === undefined ? undefined : next?.env)
      if (withNext !== undefined) last = result
    }
    return last
  }

  /** Runs one text of an upload and checks what it says. */
  async #put(call: Call, id: string, text: string, options: RunnerCallOptions, env?: Call['env']): Promise<ExecResult> {
    const result = await this.#exec(text, env, options)
    const said = new RegExp(`@switchyard ${id} ([a-z0-9-]+)`).exec(result.stdout)?.[1]
    if (said === 'done') return result
    if (said === 'no-base64') throw unfitImage(this.#context(call), 'base64')
    if (said === 'no-home') throw this.#invalid("the home folder of the sandbox's user can't be written to; set HOME in the image to a folder of that user's, on a disk with room")
    if (said === 'disk') throw runnerFailure('disk', '', this.#context(call))
    throw this.#unanswered(call, result)
  }

  #exec(script: string, env: Readonly<Record<string, string>> | undefined, options: RunnerCallOptions): Promise<ExecResult> {
    return this.#options.provider.exec(this.#options.sandboxId, { script, ...(env === undefined ? {} : { env }) }, options)
  }

  #unanswered(call: Call, result: ExecResult): InfrastructureError {
    if (result.exitCode === 126 || result.exitCode === 127) return unfitImage(this.#context(call), 'POSIX shell')
    return this.#transient(call, `the sandbox's answer was cut (exit code ${result.exitCode})`)
  }

  #context(call: Call): FailureContext {
    const image = this.#options.image
    return {
      source: this.#options.provider.name,
      image: image === undefined ? "the sandbox's image" : `the image "${image}"`,
      verb: call.verb,
      secrets: call.secrets ?? [],
    }
  }

  #transient(call: Call, message: string): InfrastructureError {
    const source = this.#options.provider.name
    return new InfrastructureError({ kind: 'transient', source, message: `${source}: ${call.verb}: ${message}; it can be tried again` })
  }

  #invalid(message: string): InfrastructureError {
    return new InfrastructureError({ kind: 'invalid', source: this.#options.provider.name, message })
  }

  #checkKey(key: string): void {
    if (!keyPattern.test(key)) throw this.#invalid(`key: "${key}" must be letters, digits, "-" and ".", at most 200, and start with a letter or a digit`)
  }

  #checkSha(field: string, sha: string): void {
    if (!shaPattern.test(sha)) throw this.#invalid(`${field}: "${sha}" must be a commit's full sha, 40 hexadecimal digits`)
  }
}

/** The script is not in the sandbox. Never leaves this file. */
class ScriptAbsent extends Error {}

function withAccess({ username = '', token = '' }: SandboxAccess): Pick<Call, 'env' | 'secrets'> {
  if (token === '') return {}
  return {
    env: { SWITCHYARD_USERNAME: username, SWITCHYARD_TOKEN: token },
    secrets: [token, Buffer.from(`${username}:${token}`).toString('base64')],
  }
}

const encode = (text: string): string => Buffer.from(text).toString('base64')
