import type { Command } from 'commander'
import { exitCodes } from '../exit-codes.js'
import { print, printJson } from '../print.js'
import { reapReport } from '../reap-report.js'
import { collect, configOf, withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

type Flags = SharedFlags & { readonly dryRun?: boolean; readonly provider?: readonly string[] }

/** `switchyard reap`: kills this deployment's sandboxes that no live job owns, now, as the consumers do once a minute. */
export function addReapCommand(program: Command): void {
  const command = program
    .command('reap')
    .description('kill this deployment’s sandboxes that no live job owns')
    .option('--dry-run', 'show every sandbox and what would become of it; kill nothing')
    .option('--provider <name>', 'only at this provider; may be given several times', collect)
  withConfigOption(withJsonOption(command, 'the providers with their sandboxes'))
  command
    .addHelpText(
      'after',
      `
Consumers do this by themselves, every consumer.reapIntervalMs. Verdicts: owned by a live job; young: nobody's, but younger than
consumer.reapGraceMs; orphan: nobody's; unclear: its job's record can't be read; foreign: not of this deployment, never touched.
Exit code 3 when a provider could not be listed, or an orphan could not be killed and is still there.

Examples:
  switchyard reap --dry-run
  switchyard reap --provider e2b --json`,
    )
    .action(async (flags: Flags) => {
      const { config, path } = await configOf(flags)
      const [{ reapEverywhere }, { configDirectory }] = await Promise.all([import('../reap-everywhere.js'), import('../../config/providers.js')])
      const rounds = await reapEverywhere(config, { directory: configDirectory(path), environment: process.env, kill: flags.dryRun !== true, only: flags.provider })
      if (flags.json === true) printJson({ providers: rounds })
      else print(reapReport(rounds, { killed: flags.dryRun !== true }))
      const left = rounds.some(({ problem, sandboxes }) => problem !== null || (flags.dryRun !== true && sandboxes.some(({ verdict, killed }) => verdict === 'orphan' && !killed)))
      if (left) process.exitCode = exitCodes.unavailable
    })
}
