#!/usr/bin/env node
import { writeSync } from 'node:fs'
import { errorMessage } from '../job/errors.js'
import { exitCodes } from './exit-codes.js'
import { endProcess } from './end-process.js'
import { runCommand } from './run-command.js'
import { pipeClosed } from './stop-signal.js'

/** The command `switchyard`. Every command says what it does in a file of its own in ./commands. */

function trySaying(text: string): void {
  try {
    writeSync(process.stderr.fd, `${text}\n`)
  } catch {
    // Nobody can be told.
  }
}

for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') {
      pipeClosed()
      return
    }
    // Synchronously, and whatever becomes of it: the process ends here.
    if (stream === process.stdout) trySaying(`switchyard: stdout: what was asked for can't be written (${errorMessage(error)}); make room there, or write it elsewhere`)
    process.exit(exitCodes.internal)
  })
}

await runCommand(process.argv.slice(2))
endProcess()
