import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

const parts = ['base', 'step', 'git', 'main']

/** The script as it is installed: its parts one after the other, without the comments that only we need. */
export const runnerScript = parts
  .map((part) => readFileSync(new URL(`sh/${part}.sh`, import.meta.url), 'utf8'))
  .join('\n')
  .split('\n')
  .filter((line, index) => index === 0 || !/^\s*#/.test(line))
  .join('\n')

const version = createHash('sha256').update(runnerScript).digest('hex').slice(0, 12)

/** Where it is in a sandbox. The name holds the version, so that consumers of two versions don't overwrite each other's. */
export const scriptPath = `"$HOME"/.switchyard/runner-${version}.sh`

/** Single quotes for the shell: fit for any text without NUL. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
