#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { harmlessLine, harmlessText } from '../job/harmless-text.js'
import { exitCodes, exitCodesHelp, explainFailure } from './exit-codes.js'
import { addArtifactsCommand } from './commands/artifacts.js'
import { addAuditCommand } from './commands/audit.js'
import { addBoardCommand } from './commands/board.js'
import { addBudgetsCommand } from './commands/budgets.js'
import { addCancelCommand } from './commands/cancel.js'
import { addConfigCommand } from './commands/config.js'
import { addConsumeCommand } from './commands/consume.js'
import { addConsumersCommand } from './commands/consumers.js'
import { addCostsCommand } from './commands/costs.js'
import { addDemoCommand } from './commands/demo.js'
import { addDevCommand } from './commands/dev.js'
import { addDoctorCommand } from './commands/doctor.js'
import { addEnqueueCommand } from './commands/enqueue.js'
import { addEventsCommand } from './commands/events.js'
import { addKeysCommand } from './commands/keys.js'
import { addInitCommand } from './commands/init.js'
import { addJobsCommand } from './commands/jobs.js'
import { addLogsCommand } from './commands/logs.js'
import { addMcpCommand } from './commands/mcp.js'
import { addProvidersCommand } from './commands/providers.js'
import { addQueueCommand } from './commands/queue.js'
import { addReapCommand } from './commands/reap.js'
import { addRetryCommand } from './commands/retry.js'
import { addSchedulesCommand } from './commands/schedules.js'
import { addServeCommand } from './commands/serve.js'
import { addStatusCommand } from './commands/status.js'
import { addTenantsCommand } from './commands/tenants.js'
import { addVerifyCommand } from './commands/verify.js'
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

const commands = [
  addDemoCommand,
  addInitCommand,
  addDevCommand,
  addEnqueueCommand,
  addConsumeCommand,
  addStatusCommand,
  addLogsCommand,
  addArtifactsCommand,
  addCancelCommand,
  addRetryCommand,
  addJobsCommand,
  addQueueCommand,
  addEventsCommand,
  addSchedulesCommand,
  addServeCommand,
  addKeysCommand,
  addMcpCommand,
  addProvidersCommand,
  addCostsCommand,
  addBudgetsCommand,
  addTenantsCommand,
  addConsumersCommand,
  addConfigCommand,
  addAuditCommand,
  addReapCommand,
  addVerifyCommand,
  addBoardCommand,
  addDoctorCommand,
]
for (const add of commands) {
  add(program)
}

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
