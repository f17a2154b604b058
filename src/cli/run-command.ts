import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { harmlessLine, harmlessText } from '../job/harmless-text.js'
import { exitCodes, exitCodesHelp, explainFailure } from './exit-codes.js'
import { addCommands } from './all-commands.js'
import { environmentHelp } from './shared-options.js'
import { say } from './print.js'
import { isPipeClosed } from './stop-signal.js'

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }

function newProgram(): Command {
  const program = new Command('switchyard')
    .description('Runs AI agents’ jobs in whichever sandbox provider has room.')
    .version(version)
    .showHelpAfterError('(switchyard <command> --help shows how it is used)')
    .exitOverride()
    // It repeats what was typed, which a script may have from anywhere.
    .configureOutput({ writeErr: (text) => process.stderr.write(harmlessText(text)), writeOut: (text) => process.stdout.write(harmlessText(text)) })
    .addHelpText('after', `\n${environmentHelp}\n\n${exitCodesHelp}\n\nStart with:  switchyard demo`)
  addCommands(program)
  return program
}

/** Does what a command line says, without the program's name, and leaves the exit code to the process. */
export async function runCommand(args: readonly string[]): Promise<void> {
  try {
    await newProgram().parseAsync(args, { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) {
      // Commander has said what there is to say. Help and version that were asked for are no mistakes.
      process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.badInput
    } else {
      const { code, lines } = explainFailure(error)
      for (const line of lines) say(`switchyard: ${harmlessLine(line)}`)
      process.exitCode = code
    }
  }
  if (isPipeClosed()) process.exitCode = exitCodes.ok
}
