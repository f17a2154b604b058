import type { Command } from 'commander'
import { configFileNames, devConfigPath, loadConfig, type LoadedConfig } from '../config/load.js'
import { environmentFields } from '../config/environment.js'
import { harmlessLine } from '../job/harmless-text.js'
import { say } from './print.js'

/** What `--config` and `--json` mean is the same everywhere; it is said here. */

export interface SharedFlags {
  readonly config?: string
  readonly json?: boolean
}

export const environmentHelp = `Configuration: --config FILE, else $SWITCHYARD_CONFIG, else what a running "switchyard dev" of this checkout left in
${devConfigPath}, else ${configFileNames[0]} (.js, .mjs, .json) in this folder. These variables override it:
${Object.entries(environmentFields).map(([name, field]) => `  ${name.padEnd(36)}${field}`).join('\n')}`

export function withConfigOption(command: Command): Command {
  return command.option('-c, --config <file>', 'the configuration file')
}

export function withJsonOption(command: Command, what: string): Command {
  return command.option('--json', `print ${what} as JSON on stdout, and nothing else there`)
}

/**
 * The configuration that the flags mean; warnings go to stderr.
 * @throws InvalidInputError with a sentence for every mistake.
 */
export async function configOf(flags: SharedFlags): Promise<LoadedConfig> {
  const loaded = await loadConfig({ path: flags.config })
  for (const warning of loaded.warnings) say(`switchyard: warning: ${harmlessLine(warning)}`)
  return loaded
}

/** For options that may be given several times. */
export function collect(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), value]
}
