import { HttpRefusalError } from './refusal.js'

const mostStreams = 1_000
const mostOfOne = 100

/** How many streams are open: each holds a connection, and a log's one of Redis' too. */
export class StreamLimits {
  readonly #open = new Map<string, number>()
  #all = 0

  /** @returns what is to be called when it ends. @throws HttpRefusalError 429. */
  enter(caller: string): () => void {
    const own = this.#open.get(caller) ?? 0
    if (this.#all >= mostStreams || own >= mostOfOne) {
      const whose = own >= mostOfOne ? `API key ${caller} has ${own}` : `this server has ${this.#all}`
      throw new HttpRefusalError(429, 'SWY_HTTP_RATE_LIMITED', `${whose} streams open, as many as there may be; close those that are not read`, { 'retry-after': '10' })
    }
    this.#all++
    this.#open.set(caller, own + 1)
    return () => {
      this.#all--
      const left = (this.#open.get(caller) ?? 1) - 1
      if (left === 0) this.#open.delete(caller)
      else this.#open.set(caller, left)
    }
  }
}
