import { setTimeout as delay } from 'node:timers/promises'
import { errorMessage } from '../job/errors.js'
import type { Fragment } from './pages/parts.js'

/** A look at something, and what a page is made of by it. */
export interface Look<State> {
  readonly number: number
  readonly state: State
  readonly fragments: readonly Fragment[]
}

export type FeedEvent = { readonly event: 'change'; readonly parts: Readonly<Record<string, string>> } | { readonly event: 'trouble'; readonly text: string }

/** How many looks a page that was loaded may be behind and still get only what has changed since. */
const remembered = 8

/**
 * Looks at something for all who watch it: at most once in `everyMs`, however many they are, and not at all when nobody does. Each watcher is told
 * what has changed since it was told last, as fast as it reads.
 */
export class Feed<State> {
  #last: { readonly look: Promise<Look<State>>; readonly atMs: number } | undefined
  readonly #known = new Map<number, readonly Fragment[]>()
  #number = 0

  constructor(
    private readonly load: () => Promise<State>,
    private readonly render: (state: State) => readonly Fragment[],
    private readonly everyMs: number,
    /** Milliseconds that only go forward. */
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** The latest look, if it is no older than `everyMs`; else another one. @throws what loading does. */
  async look(): Promise<Look<State>> {
    if (this.#last === undefined || this.now() - this.#last.atMs >= this.everyMs) {
      const look = this.load().then((state) => {
        const number = ++this.#number
        const fragments = this.render(state)
        this.#known.set(number, fragments)
        this.#known.delete(number - remembered)
        return { number, state, fragments }
      })
      this.#last = { look, atMs: this.now() }
    }
    return await this.#last.look
  }

  /** Something was changed: who looks next sees it. */
  forget(): void {
    this.#last = undefined
  }

  /**
   * What changes from now on, or since a look, until the signal is aborted.
   * @param since the number of the look that the watcher has; all is sent when that is not remembered.
   */
  async *watch(signal: AbortSignal, since?: number): AsyncGenerator<FeedEvent, void, undefined> {
    const seen = new Map((this.#known.get(since ?? 0) ?? []).map(({ id, key }) => [id, key]))
    let trouble = false
    while (!signal.aborted) {
      const looked = await this.look().catch((error: unknown) => errorMessage(error))
      if (typeof looked === 'string') {
        yield { event: 'trouble', text: `Not up to date: ${looked}` }
        trouble = true
      } else {
        const parts = changed(looked.fragments, seen)
        if (trouble || Object.keys(parts).length > 0) yield { event: 'change', parts }
        trouble = false
      }
      await delay(this.everyMs, undefined, { signal }).catch(() => undefined)
    }
  }
}

/** The parts that are not as they were seen, which count as seen from then on. What is whole with another part is not sent beside it. */
function changed(fragments: readonly Fragment[], seen: Map<string, string>): Record<string, string> {
  const parts: Record<string, string> = {}
  for (const { id, key, html, within } of fragments) {
    if (seen.get(id) === key) continue
    if (within === undefined || !(within in parts)) parts[id] = html
    seen.set(id, key)
  }
  const there = new Set(fragments.map(({ id }) => id))
  for (const id of seen.keys()) if (!there.has(id)) seen.delete(id)
  return parts
}
