import type { Command } from 'commander'
import { harmlessLine } from '../../job/harmless-text.js'
import type { AgentQueue } from '../../producers/index.js'
import { operateOptionsOf, withOperatorOptions, type OperatorFlags } from '../operator-flags.js'
import { print, printJson } from '../print.js'
import { consumersTable, refusedKeyLine, refusedKeys } from '../report.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

/** `switchyard consumers`: who is there, and has what; has one hand its jobs over. */
export function addConsumersCommand(program: Command): void {
  const consumers = program.command('consumers').description('show the live consumers of all queues; have one hand its jobs over and stop').addHelpText('after', '\nExamples:\n  switchyard consumers\n  switchyard consumers drain CONSUMER_ID --reason \'old release\'')
  withConfigOption(withJsonOption(consumers.command('list', { isDefault: true }).description('show the live consumers: where each runs, its release, its jobs and places, what it has'), 'the consumers'))
    .addHelpText(
      'after',
      `
JOBS are those in its hands of those that it may have. A line below the table tells of each key that is refused to one. A consumer
that died is shown until its announcement runs out (twice consumer.leaseMs).

Examples:
  switchyard consumers
  switchyard consumers --json | jq '.[] | select(.draining)'`,
    )
    .action(async (flags: SharedFlags) => {
      await withQueueOf(flags, async (queue) => {
        const found = await queue.consumers()
        if (flags.json === true) printJson(found)
        else print([consumersTable(found, Date.now()), ...refusedKeys(found).map(refusedKeyLine)].join('\n'))
      })
    })

  withOperatorOptions(consumers.command('drain <consumer>').description('have a consumer hand its jobs over and stop, as SIGTERM does; their sandboxes go on'), { reason: true })
    .addHelpText('after', '\n<consumer> is an id that "switchyard consumers" shows, or the beginning of one. What starts its process again, such as Kubernetes, will do so.\n\nExample:\n  switchyard consumers drain consumer-3f0c')
    .action(async (consumer: string, flags: OperatorFlags) => {
      const { by, reason } = operateOptionsOf(flags)
      await withQueueOf(flags, async (queue) => {
        const done = await queue.operations.drainConsumer(consumer, { by, reason })
        if (flags.json === true) printJson(done)
        else print(harmlessLine(done.changed ? `${done.consumer} hands its jobs over and stops` : `${done.consumer} was stopping already; nothing was changed`))
      })
    })
}

async function withQueueOf(flags: SharedFlags, work: (queue: AgentQueue) => Promise<void>): Promise<void> {
  const { withQueue } = await import('../open-queue.js')
  await withQueue(flags, work)
}
