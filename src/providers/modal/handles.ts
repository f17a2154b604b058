import type { Sandbox } from 'modal'
import type { SandboxInfo } from '../provider.js'

/** More than one consumer supervises; beyond it the least recently used handle is forgotten. */
const maxHandles = 1000

/**
 * The SDK's handles of sandboxes in use. A handle knows its worker and holds a connection to it, which saves two calls
 * a command.
 */
export class SandboxHandles {
  readonly #handles = new Map<string, { readonly sandbox: Sandbox; readonly info: SandboxInfo | undefined }>()

  get(sandboxId: string): Sandbox | undefined {
    const entry = this.#handles.get(sandboxId)
    if (entry === undefined) return undefined
    this.#handles.delete(sandboxId)
    this.#handles.set(sandboxId, entry)
    return entry.sandbox
  }

  /** What is known of a sandbox without asking: its name and tags never change. */
  info(sandboxId: string): SandboxInfo | undefined {
    return this.#handles.get(sandboxId)?.info
  }

  keep(sandbox: Sandbox): Sandbox {
    this.#put(sandbox, undefined)
    return sandbox
  }

  add(sandbox: Sandbox, info: SandboxInfo): SandboxInfo {
    this.#put(sandbox, info)
    return info
  }

  /**
   * Lets the next command start with a fresh handle. Commands that still run on this one go on; the SDK closes its
   * connection when it has been idle for 30 s.
   */
  forget(sandboxId: string): void {
    this.#handles.delete(sandboxId)
  }

  /** For a sandbox that has ended, or at the end of everything: its commands fail from here on. */
  drop(sandboxId: string): void {
    const entry = this.#handles.get(sandboxId)
    this.#handles.delete(sandboxId)
    entry?.sandbox.detach()
  }

  /** As `forget`, for all: their commands under way go on. */
  forgetAll(): void {
    this.#handles.clear()
  }

  dropAll(): void {
    for (const sandboxId of [...this.#handles.keys()]) this.drop(sandboxId)
  }

  #put(sandbox: Sandbox, info: SandboxInfo | undefined): void {
    this.#handles.delete(sandbox.sandboxId)
    this.#handles.set(sandbox.sandboxId, { sandbox, info })
    const oldest = this.#handles.keys().next().value
    if (this.#handles.size > maxHandles && oldest !== undefined) this.forget(oldest)
  }
}

/** Maps with at most `width` calls under way; results in the order of `items`. The first failure is thrown. */
export async function mapInOrder<Item, Result>(items: readonly Item[], width: number, map: (item: Item) => Promise<Result>): Promise<Result[]> {
  const results: Result[] = []
  const queue = items.entries()
  const worker = async () => {
    for (const [index, item] of queue) results[index] = await map(item)
  }
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker))
  return results
}
