import { readdir, readFile, readlink } from 'node:fs/promises'
import { gunzipSync } from 'node:zlib'
import type { Provider } from '../../src/providers/provider.js'

export interface SandboxProcess {
  readonly pid: number
  /** The command line. */
  readonly argv: string
  readonly environment: string
}

/**
 * Every process in any sandbox of this machine, seen from outside: one that has another view of the file system than this process.
 * What the consumer runs itself (its own git holds tokens too) has this process's view.
 */
export async function sandboxProcesses(): Promise<SandboxProcess[]> {
  const own = await readlink('/proc/self/ns/mnt')
  const found: SandboxProcess[] = []
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      if ((await readlink(`/proc/${entry}/ns/mnt`)) === own) continue
      const [argv, environment] = await Promise.all([readFile(`/proc/${entry}/cmdline`, 'latin1'), readFile(`/proc/${entry}/environ`, 'latin1')])
      found.push({ pid: Number(entry), argv: argv.replaceAll('\0', ' '), environment })
    } catch {
      // It has ended in between, or is another user's.
    }
  }
  return found
}

/** All that a sandbox's files hold: those below its home and its folder for temporary files as they are, and the objects of both its git folders unpacked. */
export async function sandboxFiles(provider: Provider, sandboxId: string): Promise<string> {
  const script = [
    'cd "$HOME" || exit 1',
    '{',
    'find "$HOME" "${TMPDIR:-/tmp}" -type f 2>/dev/null | while IFS= read -r file; do printf "%s\\n" "$file"; cat "$file"; done',
    'for folder in "$HOME/repository/.git" "$HOME/.switchyard/git"; do [ ! -d "$folder" ] || GIT_DIR=$folder git cat-file --batch-all-objects --batch --buffer; done',
    '} 2>/dev/null | gzip -c | base64',
  ].join('\n')
  const { stdout } = await provider.exec(sandboxId, { script }, { timeoutMs: 20_000 })
  return gunzipSync(Buffer.from(stdout, 'base64')).toString('latin1')
}
