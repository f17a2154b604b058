#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { harmlessLine, harmlessText } from '../job/harmless-text.js'
import { exitCodes, exitCodesHelp, explainFailure } from './exit-codes.js'
import { addCommands } from './all-commands.js'
import { endProcess } from './end-process.js'
import { environmentHelp } from './shared-options.js'
import { say } from './print.js'
import { isPipeClosed, pipeClosed } from './stop-signal.js'

/** The command `switchyard`. Every command says what it does in a file of its own in ./commands. */

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }

const program = new Command('switchyard')
  .description('Runs AI agents’ jobs in whichever sandbox provider has room.')
  .version(version)
  .showHelpAfterError('(switchyard <command> --help shows how it is used)')
  .exitOverride()
  // It repeats what was typed, which a script may have from anywhere.
  .configureOutput({ writeErr: (text) => process.stderr.write(harmlessText(text)), writeOut: (text) => process.stdout.write(harmlessText(text)) })
  .addHelpText('after', `\n${environmentHelp}\n\n${exitCodesHelp}\n\nStart with:  switchyard demo`)

addCommands(program)

for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => (error.code === 'EPIPE' ? pipeClosed() : process.exit(exitCodes.internal)))
}

try {
  await program.parseAsync()
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
endProcess()
