import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

/**
 * Redis's clock, which can be set without being root and for it alone: this process's PATH begins with a `redis-server` into which
 * ./wrong-clock.c is preloaded. (libfaketime does not get along with Redis's allocator.)
 */
export class RedisClock {
  private constructor(
    private readonly folder: string,
    private readonly pathBefore: string,
  ) {}

  /** @throws Error where redis-server or a C compiler is not installed. */
  static async install(): Promise<RedisClock> {
    const pathBefore = process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin'
    const real = pathBefore.split(delimiter).map((place) => join(place, 'redis-server')).find((file) => existsSync(file))
    if (real === undefined) throw new Error('redis-clock: redis-server is not on PATH; install it, or leave this kind of fault out')
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-redis-clock-'))
    const [bin, library] = [join(folder, 'bin'), join(folder, 'wrong-clock.so')]
    await mkdir(bin)
    await promisify(execFile)('cc', ['-shared', '-fPIC', '-O1', '-o', library, fileURLToPath(new URL('wrong-clock.c', import.meta.url))]).catch((error: unknown) => {
      throw new Error('redis-clock: the preloaded library could not be compiled; install a C compiler, or leave this kind of fault out', { cause: error })
    })
    const clock = new RedisClock(folder, pathBefore)
    await writeFile(clock.file, Buffer.alloc(8))
    await writeFile(join(bin, 'redis-server'), `#!/bin/sh\nLD_PRELOAD='${library}' WRONG_CLOCK='${clock.file}' exec '${real}' "$@"\n`)
    await chmod(join(bin, 'redis-server'), 0o755)
    process.env['PATH'] = `${bin}${delimiter}${pathBefore}`
    return clock
  }

  private get file(): string {
    return join(this.folder, 'wrong-by')
  }

  /** By how much it is wrong from now on, in milliseconds; 0 sets it right. */
  async step(byMs: number): Promise<void> {
    const word = Buffer.alloc(8)
    word.writeBigInt64LE(BigInt(Math.round(byMs)))
    // In place: the server has this very file before it.
    const file = await open(this.file, 'r+')
    await file.write(word, 0, 8, 0)
    await file.close()
  }

  async close(): Promise<void> {
    process.env['PATH'] = this.pathBefore
    await rm(this.folder, { recursive: true, force: true, maxRetries: 10 })
  }
}
