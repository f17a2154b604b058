import type { Command } from 'commander'
import { createLogger } from '../logger.js'
import { configOf, withConfigOption, type SharedFlags } from '../shared-options.js'
import { aborted, listenForStop } from '../stop-signal.js'

/** `switchyard consume`: supervises jobs until it is stopped. */
export function addConsumeCommand(program: Command): void {
  withConfigOption(program.command('consume').description('take jobs from the queue and supervise them until stopped'))
    .addHelpText(
      'after',
      `
The configuration must name the git host and at least one provider. The log goes to stderr, a JSON object a line.
On SIGTERM, Ctrl-C or "switchyard consumers drain" it hands its jobs over: their sandboxes go on, and another consumer takes them up where they are.

Example:
  switchyard consume --config switchyard.config.ts`,
    )
    .action(async (flags: SharedFlags) => {
      const { config, path } = await configOf(flags)
      const log = createLogger(config.logs.level)
      const [{ startConsumer }, { configDirectory }] = await Promise.all([import('../start-consumer.js'), import('../../config/providers.js')])
      using stop = listenForStop()
      const leaving = new AbortController()
      const consumer = await startConsumer(config, { directory: configDirectory(path), environment: process.env, log, onLeave: () => leaving.abort(), signal: stop.signal })
      await aborted(AbortSignal.any([stop.signal, leaving.signal]))
      log.info({ signal: stop.received ?? 'an operator' }, 'stopping: handing jobs over')
      await consumer.stop()
    })
}
