/**
 * Frees an engine that a job keeps waiting.
 *
 * Podman holds a container's lock while it starts a command there, and the command is in the container before it is a program: as such a job can
 * stop it, and the engine waits for minutes, with every listing, look and removal that needs the lock. Nothing that goes through the lock helps then.
 * So a call that has had no answer for a while has what waits ended by its process (free.sh): the command alone, or all of a container that is to end
 * anyway. This consumer does so itself where it sees the container's processes and may signal them; else a short container of the deployment's own image
 * does, which sees the machine's processes. What hangs is one job's, and only that job notices.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import type { Engine } from './engine.js'

// Read once, so that a package that is replaced is not half of each.
const script = readFileSync(new URL('./free.sh', import.meta.url), 'utf8')

/** Longer than an engine takes that nobody keeps waiting, a busy machine's included. */
const patienceMs = 5_000
/** How long such a container looks, from its start on. */
const looksForMs = 10_000
const createdSchema = z.object({ Id: z.string() })

/** `starts`: commands that are stopped before they began, in one container or (no id) in all of ours. `all`: everything in a container. */
export type Freed = { readonly what: 'starts'; readonly id?: string } | { readonly what: 'all'; readonly id: string }

/** The body of the create of such a container, without `Cmd`: that is `[what, id]`. */
export function freeingBody(image: string, name: string): Record<string, unknown> {
  return {
    Image: image,
    User: '0',
    Entrypoint: ['/bin/sh', '-c', script, 'switchyard-free'],
    Labels: { 'dev.switchyard.frees': name },
    HostConfig: {
      AutoRemove: true,
      PidMode: 'host',
      NetworkMode: 'none',
      ReadonlyRootfs: true,
      CapDrop: ['ALL'],
      CapAdd: ['KILL'],
      // Profiles that confine containers keep signals from what is not confined alike, which is what it is to end.
      SecurityOpt: ['no-new-privileges', 'label=disable', 'apparmor=unconfined'],
    },
  }
}

export class Freeing {
  readonly #running = new Map<string, Promise<void>>()

  constructor(
    private readonly engine: Engine,
    private readonly image: string,
    private readonly name: string,
  ) {}

  /** Waits for a call, and frees the engine again and again as long as there is no answer. */
  async during<Result>(freed: Freed, call: Promise<Result>): Promise<Result> {
    const timer = this.begin(freed)
    try {
      return await call
    } finally {
      clearInterval(timer)
    }
  }

  /** Begins to free the engine, until the timer is cleared. */
  begin(freed: Freed): NodeJS.Timeout {
    return setInterval(() => void this.#free(freed), patienceMs).unref()
  }

  /** One at a time for each. That it fails shows where the call does that waits. */
  #free({ what, id = '' }: Freed): Promise<void> {
    const key = `${what} ${id}`
    const running = this.#running.get(key) ?? this.#run(what, id).catch(() => undefined).finally(() => this.#running.delete(key))
    this.#running.set(key, running)
    return running
  }

  async #run(what: string, id: string): Promise<void> {
    if (await freeHere(what, id)) return
    const signal = AbortSignal.timeout(20_000)
    const { Id } = await this.engine.json(createdSchema, 'POST', '/containers/create', signal, { ...freeingBody(this.image, this.name), Cmd: [what, id] })
    try {
      await this.engine.call('POST', `/containers/${Id}/start`, signal)
    } catch (error) {
      await this.engine.call('DELETE', `/containers/${Id}?force=true&v=true`, AbortSignal.timeout(20_000)).catch((left: unknown) => {
        throw new AggregateError([error, left], `${this.name}: the helper that frees the engine did not start, and its container ${Id} could not be removed`)
      })
      throw error
    }
    await sleep(looksForMs, undefined, { ref: false })
  }
}

/** @returns false where this user does not see such processes, or may not signal them. */
function freeHere(what: string, id: string): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn('/bin/sh', ['-c', script, 'switchyard-free', what, id], { cwd: '/', stdio: 'ignore', env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin' } })
    child.unref()
    child.once('error', () => resolve(false))
    child.once('exit', (code) => resolve(code === 0))
  })
}
