import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm, symlink } from 'node:fs/promises'
import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { promisify } from 'node:util'
import { errorMessage, SwitchyardError } from '../../job/errors.js'

/**
 * Agents that people use, in the version with which the recipes of docs/agents.md were run, from the npm registry. They are installed
 * once into a folder of this user's for caches; none of their install scripts is run.
 */

export interface RealAgent {
  /** The name of its program. */
  readonly name: string
  readonly says: string
  readonly package: string
  readonly version: string
  /** What it takes on the disk. */
  readonly sizeMiB: number
  /** Where its program may be, in node_modules; the first that is there. */
  readonly programs: readonly string[]
}

const native = `${process.platform}-${process.arch}`

export const realAgents: Readonly<Record<string, RealAgent>> = {
  claude: {
    name: 'claude',
    says: 'Claude Code',
    package: '@anthropic-ai/claude-code',
    version: '2.1.197',
    sizeMiB: 235,
    programs: [`@anthropic-ai/claude-code-${native}/claude`, `@anthropic-ai/claude-code-${native}-musl/claude`],
  },
  qwen: { name: 'qwen', says: 'Qwen Code', package: '@qwen-code/qwen-code', version: '0.15.10', sizeMiB: 55, programs: ['.bin/qwen'] },
  gemini: { name: 'gemini', says: 'Gemini CLI', package: '@google/gemini-cli', version: '0.61.0', sizeMiB: 100, programs: ['.bin/gemini'] },
  codex: { name: 'codex', says: 'Codex', package: '@openai/codex', version: '0.171.0', sizeMiB: 424, programs: ['.bin/codex'] },
}

export interface InstalledAgent {
  /** All that it needs; a sandbox must see it. */
  readonly folder: string
  /** The folder for PATH. */
  readonly bin: string
}

/** Where agents are installed: SWITCHYARD_AGENTS_CACHE, or a folder of this user's for caches. */
export function agentsCache(environment: Readonly<Record<string, string | undefined>>): string {
  const { SWITCHYARD_AGENTS_CACHE: own, XDG_CACHE_HOME: xdg } = environment
  if (own !== undefined && isAbsolute(own)) return own
  return join(xdg !== undefined && isAbsolute(xdg) ? xdg : join(homedir(), '.cache'), 'switchyard', 'agents')
}

const run = promisify(execFile)
const installMs = 600_000

/**
 * Installs an agent, unless it is there.
 * @param say is told before anything is downloaded.
 * @throws SwitchyardError with a sentence when it can't be installed or does not run here; nothing is left of the attempt.
 */
export async function installAgent(agent: RealAgent, options: { readonly cache: string; readonly signal: AbortSignal; readonly say: (line: string) => void }): Promise<InstalledAgent> {
  const { cache, signal, say } = options
  const folder = join(cache, `${agent.name}-${agent.version}`)
  const installed = { folder, bin: join(folder, 'bin') }
  if (existsSync(join(installed.bin, agent.name))) return installed
  const wanted = `${agent.package}@${agent.version}`
  try {
    say(`Installing ${wanted} from the npm registry into ${folder} (${agent.sizeMiB} MiB) ...`)
    await mkdir(cache, { recursive: true })
    const attempt = await mkdtemp(join(cache, 'installing-'))
    try {
      await run('npm', ['install', '--prefix', attempt, '--ignore-scripts', '--no-audit', '--no-fund', '--no-update-notifier', '--loglevel=error', wanted], { timeout: installMs, signal, cwd: attempt })
      const program = agent.programs.find((path) => existsSync(join(attempt, 'node_modules', path)))
      if (program === undefined) throw new Error(`it has no program for ${native}`)
      await mkdir(join(attempt, 'bin'))
      await symlink(join('..', 'node_modules', program), join(attempt, 'bin', agent.name))
      await run(join(attempt, 'bin', agent.name), ['--version'], { timeout: 60_000, signal, env: { PATH: process.env['PATH'], HOME: attempt } })
      // Somebody else may have been quicker.
      await rename(attempt, folder).catch((error: unknown) => {
        if (!existsSync(join(installed.bin, agent.name))) throw error
      })
      return installed
    } finally {
      await rm(attempt, { recursive: true, force: true })
    }
  } catch (error) {
    signal.throwIfAborted()
    throw new SwitchyardError(`${agent.says} can’t be installed here (${wanted}: ${firstLine(error)})`)
  }
}

function firstLine(error: unknown): string {
  const { stderr } = error as { readonly stderr?: unknown }
  const said = typeof stderr === 'string' ? stderr.split('\n').map((line) => line.trim()).filter((line) => line !== '') : []
  return said[0] ?? errorMessage(error).split('\n')[0] ?? ''
}
