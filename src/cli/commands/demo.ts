import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { exitCodes } from '../exit-codes.js'
import { withJsonOption, type SharedFlags } from '../shared-options.js'
import { listenForStop } from '../stop-signal.js'

type Flags = SharedFlags & { readonly keep?: boolean }

/** `switchyard demo`: three real jobs from enqueue to completion event, on this machine. */
export function addDemoCommand(program: Command): void {
  const command = program
    .command('demo')
    .description('run three real jobs on this machine: one promoted, one moved to another provider, one that fails')
    .option('--keep', 'keep everything up afterwards and print the address of Bull Board; Ctrl-C stops it')
  withJsonOption(command, 'results and events')
  command
    .addHelpText(
      'after',
      `
It starts a private Redis server, a local Code Storage and a consumer, all in a temporary folder, and leaves nothing behind.
Exit 0 only if all three jobs ended as intended.

Examples:
  switchyard demo
  switchyard demo --json | jq '.jobs[].status'`,
    )
    .action(async (flags: Flags) => {
      const { runDemo } = await import('../demo/run-demo.js')
      using stop = listenForStop()
      try {
        await runDemo({
          source: fileURLToPath(new URL('../../../', import.meta.url)),
          keep: flags.keep ?? false,
          output: flags.json === true ? process.stderr : process.stdout,
          signal: stop.signal,
          onReport: ({ complaints, ...report }) => {
            const output = flags.json === true ? process.stderr : process.stdout
            output.write(complaints.length === 0 ? '\nAll three jobs ended as intended.\n' : `\nNot as intended:\n${complaints.map((line) => `  ${line}`).join('\n')}\n`)
            if (flags.json === true) process.stdout.write(`${JSON.stringify(report)}\n`)
            if (complaints.length > 0) process.exitCode = exitCodes.jobFailed
          },
        })
      } catch (error) {
        if (stop.received === undefined) throw error
        process.stderr.write('switchyard: stopped; everything was taken down\n')
        process.exitCode = exitCodes.interrupted
      }
    })
}
