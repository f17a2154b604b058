import { Option, type Command } from 'commander'
import { InvalidInputError } from '../../job/errors.js'
import { jsonLine, pass } from '../print.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

type Flags = SharedFlags & { readonly follow?: boolean; readonly raw?: boolean; readonly after: string }

/** `switchyard logs`: a job's output, byte for byte, or on a terminal made harmless. */
export function addLogsCommand(program: Command): void {
  const command = program
    .command('logs <job-id>')
    .description('print a job’s output: stdout on stdout, everything else on stderr')
    .option('--raw', 'byte for byte on a terminal too: what a job printed can do there whatever a terminal can')
    .option('-f, --follow', 'go on until the job has ended')
    .addOption(new Option('--after <seq>', 'start behind this sequence number, as --json shows it').default('0'))
  withConfigOption(withJsonOption(command, 'a line per piece of output'))
  command
    .addHelpText(
      'after',
      `
On a terminal each line bears its step's name, and control characters are shown as pictures; elsewhere the output is as it was printed.

Examples:
  switchyard logs JOB_ID --follow
  switchyard logs JOB_ID --json --after 120`,
    )
    .action(async (jobId: string, flags: Flags) => {
      const after = Number(flags.after)
      if (!Number.isInteger(after) || after < 0) throw new InvalidInputError(`--after: "${flags.after}" must be a whole number, a sequence number from --json`)
      const { withQueue } = await import('../open-queue.js')
      const { LogPrinter } = await import('../log-printer.js')
      await withQueue(flags, async (queue) => {
        const printer = new LogPrinter()
        const terminal = (stream: NodeJS.WriteStream) => stream.isTTY && flags.raw !== true
        for await (const { seq, atMs, attempt, step, stream, offset, text, data } of queue.job(jobId).logs({ after, follow: flags.follow ?? false })) {
          const to = stream === 'stdout' ? process.stdout : process.stderr
          if (flags.json === true) await pass(process.stdout, `${jsonLine({ seq, atMs, attempt, step, stream, offset, text })}\n`)
          else await pass(to, terminal(to) ? printer.add({ attempt, step, stream, data }) : data)
        }
        await pass(terminal(process.stderr) ? process.stderr : process.stdout, printer.end())
      })
    })
}
