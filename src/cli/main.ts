#!/usr/bin/env node
import { exitCodes } from './exit-codes.js'
import { endProcess } from './end-process.js'
import { runCommand } from './run-command.js'
import { pipeClosed } from './stop-signal.js'

/** The command `switchyard`. Every command says what it does in a file of its own in ./commands. */

for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => (error.code === 'EPIPE' ? pipeClosed() : process.exit(exitCodes.internal)))
}

await runCommand(process.argv.slice(2))
endProcess()
