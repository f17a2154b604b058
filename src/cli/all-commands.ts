import type { Command } from 'commander'
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

/** Adds every command, in the order in which they are listed. */
export function addCommands(program: Command): void {
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
  for (const add of commands) add(program)
}
