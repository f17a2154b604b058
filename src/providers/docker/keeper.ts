/**
 * Keeps containers' deadlines from outside of them.
 *
 * A container has no lifetime of its own. Its first process ends at a time that `extend` moves (container.ts), but what runs beside that
 * process as the same user can stop it or write another time. So a small process of this machine's looks as well, one for each container,
 * and kills the container a few seconds after its deadline. It goes on when this consumer is gone.
 *
 * The deadline has to be in a place that every consumer of the engine can write, and that outlives them all: that is the container. What is
 * written there bears a signature whose key is in the container's labels, which only those see who may open the engine's socket. A job that
 * changes or removes it, or lets nobody read it, has the last deadline that was read.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

// Read once, so that a package that is replaced is not half of each. Node needs the other one as a file.
const script = readFileSync(new URL('./keeper.sh', import.meta.url), 'utf8')
const look = fileURLToPath(new URL('./keep-deadline.mjs', import.meta.url))

/** "SECONDS SIGNATURE", as it is written into the container. */
export function signedDeadline(seconds: number, key: string): string {
  return `${seconds} ${createHmac('sha256', key).update(String(seconds)).digest('hex')}`
}

export class Keepers {
  readonly #running = new Map<string, ChildProcess>()

  /** @param freeing the body of a container that frees the engine, see free.ts. */
  constructor(
    private readonly socketPath: string,
    private readonly freeing: Readonly<Record<string, unknown>>,
  ) {}

  /** Sees to it that a process of this consumer's looks after the container. Returns at once. */
  watch(containerId: string, lifetimeMs: number): void {
    if (this.#running.has(containerId)) return
    const seconds = Math.ceil(lifetimeMs / 1000)
    const first = String(seconds > 60 ? Math.ceil(seconds / 2) : seconds + 1)
    const keeper = spawn('/bin/sh', ['-c', script, 'switchyard-keeper', first, process.execPath, look, this.socketPath, containerId, JSON.stringify(this.freeing)], {
      cwd: '/',
      env: { PATH: process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin' },
      detached: true,
      stdio: 'ignore',
    })
    this.#running.set(containerId, keeper)
    const forget = () => {
      if (this.#running.get(containerId) === keeper) this.#running.delete(containerId)
    }
    // Without one the container's own process still ends it, and the next call tries again.
    keeper.once('error', forget)
    keeper.once('exit', forget)
    keeper.unref()
  }

  /** After the container has ended. Another consumer's finds out by itself. */
  end(containerId: string): void {
    const pid = this.#running.get(containerId)?.pid
    this.#running.delete(containerId)
    if (pid === undefined) return
    try {
      process.kill(-pid, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}
