import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { InfrastructureError } from '../job/errors.js'
import type { ExecResult, Provider } from '../providers/provider.js'
import { MalformedAnswer, parseAnswer, type Answer } from './answer.js'
import { forgedAnswer, runnerFailure, unfitImage, type FailureContext } from './failures.js'
import type { RunnerCallOptions } from './runner.js'
import { callText, isAbsent, isStarved, scriptBytes, scriptDigest, uploadTexts } from './script.js'

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
export const maxEntryBytes = 128 * 1024 - 256

/** 16 hex digits that nothing in a sandbox can foretell: 62 bits of a UUID's, which Node draws many at a time. */
const newNonce = () => randomUUID().slice(19).replace('-', '')

export interface Call {
  readonly verb: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly secrets?: readonly string[]
}

/** Takes from an answer what is wanted of it. @throws MalformedAnswer for what the script never says. */
export type Reading<Result> = (answer: Answer) => Result | Promise<Result>

/** Of an answer that says nothing but that all went well. */
export const nothing: Reading<void> = () => undefined

/**
 * The way of a call into the sandbox and of its answer back:
 *
 *   sent ──► answered
 *     │ └──► the script is absent, or was changed ──► installed, with the call in the same command ──► answered
 *     ├────► transient (the answer was cut, the provider did not answer in time) ──► sent again, while tries and time are left
 *     └────► final, but by one answer's word alone (it is whole and no runner's, there is no shell) ──► sent again, once: what garbles
 *            one answer on its way garbles no second one, and what stands in the runner's place is still there
 */
export class RunnerCalls {
  readonly #options: RunnerOptions
  readonly #now: () => number
  /** Errors that one answer alone speaks for. */
  readonly #doubted = new WeakSet<InfrastructureError>()
  /** The longest command text, in bytes. */
  readonly maxTextBytes: number

  constructor(options: RunnerOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.maxTextBytes = Math.min(options.provider.capabilities.maxCommandBytes, maxEntryBytes)
  }

  /** When a call that begins now has to be over. */
  deadline({ timeoutMs }: RunnerCallOptions): number {
    return this.#now() + timeoutMs
  }

  /**
   * Makes a call: tried again after `transient`, and with the script installed where it is missing.
   * @param read takes from the answer what is wanted of it.
   * @throws InfrastructureError for a failure that the answer names; `invalid`, the job's, for what the script never says.
   */
  call<Result>(call: Call, options: RunnerCallOptions, read: Reading<Result>): Promise<Result> {
    return this.retried(call, options, (left) => this.onceInstalled(call, left), read)
  }

  /** As `call`, with an attempt of the caller's own. */
  retried<Result>(call: Call, options: RunnerCallOptions, attempt: (left: RunnerCallOptions) => Promise<Answer>, read: Reading<Result>): Promise<Result> {
    return this.again(call, options, async (left) => {
      const answer = await attempt(left)
      if (answer.failure === undefined || answer.failure === 'no-step') return await this.reading(call, () => read(answer))
      throw this.#failure(call, answer.failure, answer)
    })
  }

  #failure(call: Call, keyword: string, answer: Answer): InfrastructureError {
    const error = runnerFailure(keyword, answer.blobs.get('detail')?.toString() ?? '', this.context(call))
    return error.code === 'SWY_RUNNER_ANSWER' ? this.#doubt(error) : error
  }

  #doubt(error: InfrastructureError): InfrastructureError {
    this.#doubted.add(error)
    return error
  }

  /** Tries again after `transient`, as long as tries and time are left, and once after what one answer alone speaks for. */
  async again<Result>(call: Call, options: RunnerCallOptions, attempt: (left: RunnerCallOptions) => Promise<Result>): Promise<Result> {
    const tries = this.#options.tries ?? 4
    const backoffMs = this.#options.backoffMs ?? ((failedTries: number) => 200 * 2 ** (failedTries - 1))
    const sleep = this.#options.sleep ?? ((ms: number, signal: AbortSignal | undefined) => delay(ms, undefined, { signal }))
    const deadline = this.deadline(options)
    let doubts = 0
    for (let failed = 1; ; failed += 1) {
      options.signal?.throwIfAborted()
      try {
        return await attempt(this.until(deadline, options))
      } catch (thrown) {
        const error = this.#asTransient(call, thrown)
        const waitMs = backoffMs(failed)
        const mayPass = error instanceof InfrastructureError && (error.kind === 'transient' || (this.#doubted.has(error) && ++doubts === 1))
        const again = mayPass && failed < tries && this.#now() + waitMs < deadline
        if (!again) throw error instanceof StarvedError ? new InfrastructureError({ kind: 'invalid', owner: 'job', source: error.source, message: error.message }) : error
        await sleep(waitMs, options.signal).catch((reason: unknown) => {
          options.signal?.throwIfAborted()
          throw reason
        })
      }
    }
  }

  /** What is left of a call's time. */
  until(deadline: number, { signal }: RunnerCallOptions): RunnerCallOptions {
    return { timeoutMs: Math.max(1, deadline - this.#now()), signal }
  }

  /** A provider that did not answer in time is no end of the job's own time. */
  #asTransient(call: Call, error: unknown): unknown {
    if (!(error instanceof InfrastructureError) || error.kind !== 'timeout') return error
    return new InfrastructureError({
      kind: 'transient',
      owner: error.owner,
      source: error.source,
      message: `${error.source}: ${call.verb} did not end in time in the sandbox`,
      cause: error,
    })
  }

  /** Makes a call, and installs the script first when it is missing or was changed. */
  async onceInstalled(call: Call, options: RunnerCallOptions): Promise<Answer> {
    try {
      return await this.#once(call, options)
    } catch (error) {
      if (!(error instanceof ScriptAbsent)) throw error
    }
    return this.installWith(call, options)
  }

  /** Puts the script into the sandbox and makes the first call of it, together where both fit into one command. */
  async installWith(call: Call, options: RunnerCallOptions): Promise<Answer> {
    const deadline = this.deadline(options)
    const first = this.#text(call)
    const install: Call = { verb: 'install', args: [] }
    const name = `runner-${scriptDigest.slice(0, 12)}.sh`
    const next = { text: first.text, env: call.env }
    const result = await this.upload(install, name, scriptBytes, options, { next, gzip: true }).catch((error: unknown) => {
      if (error instanceof GzipAbsent) return this.upload(install, name, scriptBytes, this.until(deadline, options), { next })
      throw error
    })
    try {
      if (result === undefined) return await this.#once(call, this.until(deadline, options))
      return await this.#answer(call, first.nonce, result)
    } catch (error) {
      if (!(error instanceof ScriptAbsent)) throw error
      throw this.#transient(call, 'the runner disappears from the sandbox as soon as it is installed')
    }
  }

  async #once(call: Call, options: RunnerCallOptions): Promise<Answer> {
    const { nonce, text } = this.#text(call)
    return this.#answer(call, nonce, await this.exec(text, call.env, options))
  }

  #text(call: Call): { readonly nonce: string; readonly text: string } {
    const nonce = newNonce()
    const text = callText(nonce, call.verb, call.args)
    const bytes = Buffer.byteLength(text)
    if (bytes > this.maxTextBytes) {
      throw this.invalid(`${call.verb}: its arguments are ${bytes} bytes and the provider takes ${this.maxTextBytes}; shorten the message or the names of the variables`)
    }
    return { nonce, text }
  }

  /** Reads what an answer says. @throws InfrastructureError `invalid`, the job's, for what the script never says. */
  async reading<Result>(call: Pick<Call, 'verb' | 'secrets'>, read: () => Result | Promise<Result>): Promise<Result> {
    try {
      return await read()
    } catch (error) {
      throw error instanceof MalformedAnswer ? this.#doubt(forgedAnswer(this.context(call), error.message)) : error
    }
  }

  async #answer(call: Call, nonce: string, result: ExecResult): Promise<Answer> {
    const answer = await this.reading(call, () => parseAnswer(result.stdout, nonce))
    if (answer !== undefined) return answer
    if (isAbsent(result.stdout, nonce)) throw new ScriptAbsent()
    if (isStarved(result.stdout, nonce)) throw this.#starved(call)
    throw this.#unanswered(call, result)
  }

  /**
   * Puts a file into the runner's folder.
   * @param more.next a command to run right after it, in the same call.
   * @param more.gzip packs it on its way. @throws GzipAbsent
   * @returns that call's result; undefined without `next`, or when the two were too long together and `next` was not run.
   */
  async upload(
    call: Call,
    name: string,
    content: Buffer,
    options: RunnerCallOptions,
    { next, gzip = false }: { readonly next?: { readonly text: string; readonly env: Call['env'] }; readonly gzip?: boolean } = {},
  ): Promise<ExecResult | undefined> {
    const id = newNonce()
    const deadline = this.deadline(options)
    const texts = uploadTexts(name, content, id, this.maxTextBytes, gzip)
    // In a subshell, so that it ends without ending what comes after it.
    const joined = next === undefined ? undefined : `(${texts.at(-1) ?? ''}\n)\n${next.text}`
    const together = joined !== undefined && Buffer.byteLength(joined) <= this.maxTextBytes ? joined : undefined
    let last: ExecResult | undefined
    for (const [index, text] of texts.entries()) {
      const withNext = index === texts.length - 1 ? together : undefined
      const left = this.until(deadline, options)
      // Each piece by itself: of many, one is lost more often than all of them arrive.
      if (withNext === undefined) await this.again(call, left, (time) => this.put(call, id, text, time))
      else last = await this.put(call, id, withNext, left, next?.env)
    }
    return last
  }

  /** Runs one text of an upload and checks what it says. */
  async put(call: Call, id: string, text: string, options: RunnerCallOptions, env?: Call['env']): Promise<ExecResult> {
    const result = await this.exec(text, env, options)
    const begin = `@switchyard ${id} `
    const at = result.stdout.indexOf(begin)
    const said = at < 0 ? undefined : /^[a-z0-9-]+/.exec(result.stdout.slice(at + begin.length, at + begin.length + 16))?.[0]
    if (said === 'done') return result
    if (said === 'no-base64') throw unfitImage(this.context(call), 'base64')
    if (said === 'no-gzip') throw new GzipAbsent()
    if (said === 'no-home') throw this.invalid("the home folder of the sandbox's user can't be written to; set HOME in the image to a folder of that user's, on a disk with room")
    if (said === 'disk') throw runnerFailure('disk', '', this.context(call))
    throw this.#unanswered(call, result)
  }

  /** Runs a text as it is, once. */
  async exec(script: string, env: Readonly<Record<string, string>> | undefined, options: RunnerCallOptions): Promise<ExecResult> {
    try {
      return await this.#options.provider.exec(this.#options.sandboxId, { script, ...(env === undefined ? {} : { env }) }, options)
    } catch (error) {
      throw error instanceof InfrastructureError && error.kind === 'invalid' ? this.#doubt(error) : error
    }
  }

  /** It may pass, so it is tried again; what does not pass is the job's own doing, and the same in every sandbox. */
  #starved(call: Call): StarvedError {
    const { source } = this.context(call)
    return new StarvedError({ kind: 'transient', owner: 'job', source, message: `${source}: ${call.verb}: the job's commands leave the sandbox no process to run anything in; let them start fewer, or use an image and a provider that allow more` })
  }

  #unanswered(call: Call, result: ExecResult): InfrastructureError {
    if (result.exitCode === 126 || result.exitCode === 127) return this.#doubt(unfitImage(this.context(call), 'POSIX shell'))
    return this.#transient(call, `the sandbox's answer was cut (exit code ${result.exitCode})`)
  }

  /** What a failure's sentence speaks of. */
  context(call: Pick<Call, 'verb' | 'secrets'>): FailureContext {
    const image = this.#options.image
    return {
      source: this.#options.provider.name,
      diskIsChosen: this.#options.provider.capabilities.resources.disk,
      image: image === undefined ? "the sandbox's image" : `the image "${image}"`,
      verb: call.verb,
      secrets: call.secrets ?? [],
    }
  }

  #transient(call: Call, message: string): InfrastructureError {
    const source = this.#options.provider.name
    return new InfrastructureError({ kind: 'transient', owner: 'sandbox', source, message: `${source}: ${call.verb}: ${message}; it can be tried again` })
  }

  /** An error for what no try can mend. */
  invalid(message: string): InfrastructureError {
    return new InfrastructureError({ kind: 'invalid', owner: 'job', source: this.#options.provider.name, message })
  }
}

/** The sandbox had no process left. Never leaves this file. */
class StarvedError extends InfrastructureError {}

/** The sandbox has no gzip. Never leaves this file. */
class GzipAbsent extends Error {}

/** The script is not in the sandbox. Never leaves this file. */
class ScriptAbsent extends Error {}
