import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { InvalidInputError } from '../../job/errors.js'
import { harmlessLine } from '../../job/harmless-text.js'
import { chooseServices, demoProviderNames } from '../demo/services.js'
import { exitCodes } from '../exit-codes.js'
import { printJson, printTo, say } from '../print.js'
import { withJsonOption, type SharedFlags } from '../shared-options.js'
import { listenForStop } from '../stop-signal.js'

type Flags = SharedFlags & { readonly keep?: boolean; readonly agent?: boolean; readonly providers?: string; readonly real?: boolean }

/** `switchyard demo`: real jobs from enqueue to completion event, on this machine or at the providers that are named. */
export function addDemoCommand(program: Command): void {
  const command = program
    .command('demo')
    .description('run three real jobs on this machine: one promoted, one moved to another provider, one that fails')
    .option('--providers <names>', `run at these providers instead, with commas: ${demoProviderNames.join(', ')}; a job at each, and one that starts at the first and has to move on`)
    .option('--real', 'at the services themselves, never at protocol servers; needs their keys and a Code Storage that they reach')
    .option('--no-real', 'at protocol servers, although the keys of the services are in the environment')
    .option('-c, --config <file>', 'at the services and the Code Storage that this configuration describes')
    .option('--agent', 'run a real coding agent instead, from the npm registry: its sandbox dies in the middle of a turn, and it goes on in the same conversation')
    .option('--keep', 'keep everything up afterwards and print the address of Bull Board; Ctrl-C stops it')
  withJsonOption(command, 'results and events')
  command
    .addHelpText(
      'after',
      `
It starts a private Redis server, a local Code Storage and a consumer, all in a temporary folder, and leaves nothing behind.
Exit 0 only if all jobs ended as intended.

With --providers the providers are played by servers that speak their wire protocols, which come with a checkout; they run the
sandboxes on this machine. When E2B_API_KEY, MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, DAYTONA_API_KEY (those of the providers
named), PIERRE_ORG and PIERRE_PRIVATE_KEY are all set, it runs at the services themselves, with a repository of its own at that
Code Storage organisation, which it removes. It says which of the two it did.

With --agent it installs Claude Code once (235 MiB), into SWITCHYARD_AGENTS_CACHE or this user's folder for caches, and gives it a model
that comes with a checkout. Where it can't be installed, it says so and exits with 0.

Examples:
  switchyard demo
  switchyard demo --json | jq '.jobs[].status'
  switchyard demo --providers e2b,modal,daytona
  switchyard demo --agent`,
    )
    .action(async (flags: Flags) => {
      if (flags.agent === true) {
        const problem = agentFlagsProblem(flags)
        if (problem !== undefined) throw new InvalidInputError(problem)
        await demoWithAgent(flags.json === true)
        return
      }
      const services = chooseServices(flags, process.env)
      const { runDemo } = await import('../demo/run-demo.js')
      using stop = listenForStop()
      try {
        await runDemo({
          source: fileURLToPath(new URL('../../../', import.meta.url)),
          services,
          configPath: flags.config,
          keep: flags.keep ?? false,
          output: flags.json === true ? process.stderr : process.stdout,
          signal: stop.signal,
          onReport: ({ complaints, ...report }) => {
            const output = flags.json === true ? process.stderr : process.stdout
            printTo(output, complaints.length === 0 ? `\nAll ${report.jobs.length} jobs ended as intended.` : `\n${notIntended(complaints)}`)
            if (flags.json === true) printJson(report)
            if (complaints.length > 0) process.exitCode = exitCodes.jobFailed
          },
        })
      } catch (error) {
        if (stop.received === undefined) throw error
        say('switchyard: stopped; everything was taken down')
        process.exitCode = exitCodes.interrupted
      }
    })
}

/** What can't be asked for together with `--agent`, as a sentence. */
export function agentFlagsProblem(flags: Omit<Flags, 'agent'>): string | undefined {
  const named = [
    [flags.keep, '--keep'],
    [flags.providers, '--providers'],
    [flags.config, '--config'],
    [flags.real, flags.real === false ? '--no-real' : '--real'],
  ] as const
  const other = named.find(([value]) => value !== undefined)
  return other === undefined ? undefined : `--agent: runs on this machine alone and ends by itself; leave out ${other[1]}`
}

function notIntended(complaints: readonly string[]): string {
  return ['Not as intended:', ...complaints.map((line) => `  ${harmlessLine(line)}`)].join('\n')
}

async function demoWithAgent(json: boolean): Promise<void> {
  const { runAgentDemo } = await import('../demo/run-agent-demo.js')
  using stop = listenForStop()
  const output = json ? process.stderr : process.stdout
  try {
    const report = await runAgentDemo({ source: fileURLToPath(new URL('../../../', import.meta.url)), output, signal: stop.signal })
    if (report === undefined) return
    const { complaints, ...rest } = report
    printTo(output, complaints.length === 0 ? '\nIt went on in the same conversation.' : `\n${notIntended(complaints)}`)
    if (json) printJson(rest)
    if (complaints.length > 0) process.exitCode = exitCodes.jobFailed
  } catch (error) {
    if (stop.received === undefined) throw error
    say('switchyard: stopped; everything was taken down')
    process.exitCode = exitCodes.interrupted
  }
}
