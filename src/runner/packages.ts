import { readFileSync } from 'node:fs'
import { cutText } from '../job/harmless-text.js'
import type { Answer } from './answer.js'
import type { Runner, RunnerCallOptions } from './runner.js'

/** What may be installed in a sandbox whose image lacks it. */
export type Package = 'git' | 'ca-certificates'

const script = readFileSync(new URL('./sh/packages.sh', import.meta.url), 'utf8')

/** The step's key: whoever calls again, or takes over, finds the same installation, under way or done. */
const key = 'install-packages'
const waitMs = 20_000
/** How much of the manager's output is kept: its last words say what went wrong. */
const tailBytes = 4096
const managers = 'apt-get, apk, dnf, microdnf, yum, zypper, pacman'

/** Git's version, as the script's probe found it; undefined when there is none. */
export function gitIn(answer: Answer): string | undefined {
  const git = answer.fields.get('git') ?? 'missing'
  return git === 'missing' ? undefined : git.replace(/^git version /, '')
}

/** What the probe missed, what matters most first. */
export function lackingIn(answer: Answer, certificates = false): Package[] {
  return [
    ...(gitIn(answer) === undefined ? (['git'] as const) : []),
    ...(certificates && answer.fields.get('certificates') === 'missing' ? (['ca-certificates'] as const) : []),
  ]
}

export type Installation =
  /** By this package manager. */
  | { readonly ok: true; readonly manager: string }
  /** A clause that says why not. */
  | { readonly ok: false; readonly because: string }

/**
 * Installs packages, detached in the sandbox as any step, for at most `timeoutMs`.
 * @throws InfrastructureError as the runner's calls; that the installation failed is an outcome and no error.
 */
export async function installPackages(runner: Pick<Runner, 'start' | 'read' | 'stop'>, packages: readonly Package[], options: RunnerCallOptions, now: () => number): Promise<Installation> {
  const deadlineMs = now() + options.timeoutMs
  await runner.start({ key, run: script, cwd: undefined, env: { SWITCHYARD_PACKAGES: packages.join(' ') } }, options)
  let output = ''
  let said = ''
  const offsets = { stdoutOffset: 0, stderrOffset: 0 }
  for (;;) {
    const leftMs = deadlineMs - now()
    if (leftMs <= 0) {
      await runner.stop(key, 1_000, { timeoutMs: 30_000, signal: options.signal })
      return { ok: false, because: `${managerOf(output)} did not end within ${Math.round(options.timeoutMs / 1000)} s` }
    }
    const slice = await runner.read(key, { ...offsets, waitMs: Math.min(waitMs, leftMs), maxBytes: 64 * 1024 }, { timeoutMs: leftMs + waitMs, signal: options.signal })
    offsets.stdoutOffset += slice.stdout.length
    offsets.stderrOffset += slice.stderr.length
    const texts = [slice.stdout, slice.stderr].map((bytes) => Buffer.from(bytes).toString('utf8'))
    if (output.length < 64) output += texts[0] ?? ''
    said = (said + texts.join('')).slice(-tailBytes)
    const all = offsets.stdoutOffset >= slice.stdoutSize && offsets.stderrOffset >= slice.stderrSize
    if (slice.exitCode !== null && all) return outcome(slice.exitCode, managerOf(output), said)
  }
}

function managerOf(output: string): string {
  return output.split('\n')[0] ?? ''
}

function outcome(exitCode: number, manager: string, said: string): Installation {
  if (exitCode === 0) return { ok: true, manager }
  if (exitCode === 240) return { ok: false, because: "the sandbox's user is not root and has no sudo without a password" }
  if (exitCode === 241) return { ok: false, because: `the image has no package manager that is known (${managers})` }
  const lines = said.split('\n').map((line) => line.trim()).filter((line) => line !== '')
  const telling = lines.findLast((line) => /^(E:|ERROR|Error|error)/.test(line)) ?? lines.at(-1) ?? ''
  return { ok: false, because: `${manager} ended with ${exitCode}${telling === '' ? '' : ` (${cutText(telling, 200)})`}` }
}
