import { InfrastructureError } from '../../job/errors.js'
import { bounded } from '../deadline.js'
import type { CallOptions } from '../provider.js'
import { classify, isAbort, type ClassifyContext } from './classify.js'
import type { ModalProviderConfig } from './config.js'
import { observed, type CallObservation } from './observe-calls.js'
import { connect, readToken, type ModalConnection, type ModalSdk } from './sdk.js'

export interface ModalProviderParts {
  /** Where the token is looked up. Default: `process.env`. */
  readonly environment?: Readonly<Record<string, string | undefined>>
  /** Loads the SDK. Default: the installed package. */
  readonly load?: () => Promise<ModalSdk>
}

/** What a piece of work with the SDK gets. */
export interface Call extends CallObservation {
  readonly sdk: ModalSdk
  readonly client: ModalConnection['client']
  /** `classify` for an error that the work itself has to look at. */
  sort(error: unknown): InfrastructureError
}

export type CallContext = Pick<ClassifyContext, 'what' | 'during' | 'secrets' | 'image'>

/** How long a client whose token was changed stays open for the calls that it was in, in milliseconds. */
const oldClientMs = 300_000

/** The one way to the SDK: our own deadline and cancellation over all of its calls, and `classify` over all of its errors. */
export class ModalCalls {
  readonly #config: ModalProviderConfig
  readonly #parts: ModalProviderParts
  readonly #onNewToken: () => void
  #connection: Promise<ModalConnection> | undefined
  #connectedWith: string | undefined

  /** @param onNewToken called when the token was changed: what was made with the old client must not be used any more. */
  constructor(config: ModalProviderConfig, parts: ModalProviderParts, onNewToken: () => void) {
    this.#config = config
    this.#parts = parts
    this.#onNewToken = onNewToken
  }

  /** @throws InfrastructureError, or the signal's reason when it was cancelled. */
  async run<Result>(context: CallContext, options: CallOptions, work: (call: Call) => Promise<Result>): Promise<Result> {
    const observation: { retryAfterMs: number | undefined } = { retryAfterMs: undefined }
    const sort = (error: unknown) => this.#classify(error, context, observation.retryAfterMs)
    try {
      return await bounded(this.#config.name, context.what, options, async (outer) => {
        const ending = endWith(outer)
        try {
          const call: Call = Object.assign(observation, { signal: ending.signal, listed: new Map(), sort, ...(await this.#connect()) })
          const attempt = () => observed(call, () => work(call))
          // The SDK shares the lookup of its environment between callers: one that gives up aborts it for the others.
          return await attempt().catch((error: unknown) => {
            if (isAbort(error) && !call.signal.aborted) return attempt()
            throw error
          })
        } finally {
          // What the work left under way, such as the reading of a command whose sandbox was found to be gone.
          ending.abort()
        }
      })
    } catch (error) {
      if (options.signal?.aborted === true && !(error instanceof InfrastructureError)) throw error
      throw sort(error)
    }
  }

  async close(): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined)
    this.#connection = undefined
    connection?.client.close()
  }

  get #environment(): Readonly<Record<string, string | undefined>> {
    return this.#parts.environment ?? process.env
  }

  async #connect(): Promise<ModalConnection> {
    const token = JSON.stringify(readToken(this.#config, this.#environment))
    if (this.#connection !== undefined && this.#connectedWith !== token) {
      const old = this.#connection
      this.#connection = undefined
      this.#onNewToken()
      // Calls under way end with the old one.
      setTimeout(() => void old.then(({ client }) => client.close(), () => undefined), oldClientMs).unref()
    }
    this.#connectedWith = token
    this.#connection ??= connect(this.#config, this.#environment, this.#parts.load)
    try {
      return await this.#connection
    } catch (error) {
      // So that a token or a package that comes later is found.
      this.#connection = undefined
      throw error
    }
  }

  #classify(error: unknown, context: CallContext, retryAfterMs: number | undefined): InfrastructureError {
    const secrets = [...(context.secrets ?? []), ...this.#tokenValues()]
    return classify(error, { ...context, source: this.#config.name, retryAfterMs, secrets })
  }

  #tokenValues(): string[] {
    try {
      return Object.values(readToken(this.#config, this.#environment))
    } catch (error) {
      if (error instanceof InfrastructureError) return []
      throw error
    }
  }
}

/**
 * A controller that aborts with `signal`, but without its reason: the SDK throws the reason that ended a shared lookup at
 * every caller, and a plain AbortError can be told from the rest.
 */
function endWith(signal: AbortSignal): AbortController {
  const controller = new AbortController()
  if (signal.aborted) controller.abort()
  else signal.addEventListener('abort', () => controller.abort(), { once: true })
  return controller
}
