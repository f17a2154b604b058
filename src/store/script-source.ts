import { createHash } from 'node:crypto'

/** The scripts that are known, by their digests, for what Redis says of a line in one. */
const scripts = new Map<string, string>()

export function rememberScript(source: string): void {
  scripts.set(createHash('sha1').update(source).digest('hex'), source)
}

/**
 * The command at the line of a script that Redis' message names, as in `script: SHA, on @user_script:12.`: it tells the line of a refused
 * command, and not which it was.
 */
export function commandIn(message: string): string | undefined {
  const { sha, line } = /(?:script: |f_)(?<sha>[0-9a-f]{40}).*@user_script:\s?(?<line>\d+)/.exec(message)?.groups ?? {}
  const text = sha === undefined ? undefined : scripts.get(sha)?.split('\n')[Number(line) - 1]
  return text === undefined ? undefined : /(?:redis\.p?call|\brcall|\bcall)\s*\(\s*['"]([A-Za-z]+)['"]/.exec(text)?.[1]
}
