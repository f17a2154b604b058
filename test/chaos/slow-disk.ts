import { chmod, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'

/** What the git server's storage and a step's commands begin with when they touch the disk. */
const programs = ['git', 'mkdir', 'mv', 'rm', 'cat', 'base64', 'ln', 'chmod'] as const

/**
 * A disk that can be made slow without being root: this process's PATH begins with a folder in which the programs that read and
 * write files wait for as long as a file says before they do it. The git server's `git http-backend` and the sandboxes of the
 * providers' servers get that PATH; the local provider's sandboxes have a fixed one.
 */
export class SlowDisk {
  private constructor(
    private readonly folder: string,
    private readonly pathBefore: string,
  ) {}

  static async install(): Promise<SlowDisk> {
    // Not below /tmp, of which sandboxes have one of their own.
    const folder = await mkdtemp(join(existsSync('/var/tmp') ? '/var/tmp' : tmpdir(), 'switchyard-slow-disk-'))
    await chmod(folder, 0o755)
    const bin = join(folder, 'bin')
    await mkdir(bin)
    const pathBefore = process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin'
    const disk = new SlowDisk(folder, pathBefore)
    for (const program of programs) {
      const real = pathBefore.split(delimiter).map((place) => join(place, program)).find((file) => existsSync(file))
      if (real === undefined) continue
      await writeFile(join(bin, program), `#!/bin/sh\nif read -r seconds <'${join(folder, 'seconds')}'; then sleep "$seconds"; fi 2>/dev/null\nexec '${real}' "$@"\n`, { mode: 0o755 })
    }
    process.env['PATH'] = `${bin}${delimiter}${pathBefore}`
    return disk
  }

  /** Each program waits for so long, in milliseconds, before it reads or writes. */
  async slow(byMs: number): Promise<void> {
    const draft = join(this.folder, 'draft')
    await writeFile(draft, `${byMs / 1000}\n`, { mode: 0o644 })
    await rename(draft, join(this.folder, 'seconds'))
  }

  async restore(): Promise<void> {
    await rm(join(this.folder, 'seconds'), { force: true })
  }

  async close(): Promise<void> {
    process.env['PATH'] = this.pathBefore
    await rm(this.folder, { recursive: true, force: true, maxRetries: 10 })
  }
}
