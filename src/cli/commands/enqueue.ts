import type { Command } from 'commander'
import { exitCodes } from '../exit-codes.js'
import { pass, print, printJson, say } from '../print.js'
import { failedOutput, resultReport } from '../report.js'
import { collect, withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'
import { readSpecFile, specFromFlags, type SpecFlags } from '../spec-from-flags.js'
import { eventKinds } from '../../job/event-kinds.js'
import type { JobResult } from '../../job/result.js'
import type { JobSpecInput } from '../../job/spec.js'
import type { JobHandle } from '../../producers/job-handle.js'
import { listenForStop } from '../stop-signal.js'

type Flags = SharedFlags & SpecFlags & { readonly wait?: boolean }

/** `switchyard enqueue`: adds a job, from flags, a file or both, and waits for its end if asked. */
export function addEnqueueCommand(program: Command): void {
  const command = program
    .command('enqueue')
    .description('add a job to the queue and print its id')
    .option('-r, --repository <id>', 'the repository at the git host, such as acme/web')
    .option('--ref <ref>', 'the branch, tag or sha to start from (default: the default branch)')
    .option('--setup <command>', 'a command to run at the start of every sandbox; may be given several times', collect)
    .option('-s, --step <command>', 'a command to run; may be given several times', collect)
    .option('-e, --env <NAME=VALUE>', 'a variable for all commands; may be given several times', collect)
    .option('--secret <NAME>', 'a variable whose value the consumers have; may be given several times', collect)
    .option('-m, --message <text>', 'the message of the commit')
    .option('--no-push', 'push nothing; the sandbox gets read access only')
    .option('-p, --promote <branch>', 'the branch to move to the result')
    .option('--strategy <strategy>', 'how to move it: ff_only (default), ff_prefer or merge')
    .option('--pull-request', 'open a pull request from that branch at GitHub, GitLab or Bitbucket, or update the one that is open')
    .option('--pull-request-base <branch>', 'the branch that it is to go to (default: the default branch)')
    .option('--pull-request-title <text>', 'its title (default: the first line of the message)')
    .option('--pull-request-body <markdown>', 'what is said in it, above the summary of the result')
    .option('--pull-request-draft', 'open it as a draft, or make it one')
    .option('--pull-request-label <name>', 'a label of it; may be given several times', collect)
    .option('--pull-request-reviewer <name>', 'who is to review it; may be given several times', collect)
    .option('--artifact <pattern>', 'files to store when the job ends, such as "coverage/**"; may be given several times', collect)
    .option('--prefer <provider>', 'a provider to try first; may be given several times', collect)
    .option('--allow <provider>', 'a provider that may be used, and no other; may be given several times', collect)
    .option('--deny <provider>', 'a provider not to use; may be given several times', collect)
    .option('--image <image>', 'the image or template of the sandbox')
    .option('--timeout <duration>', 'how long the job may run, such as 40m (default: 1h)')
    .option('--attempts <number>', 'how often to run the whole job until it succeeds (default: 1)')
    .option('--delay <duration>', 'how long it is not to be run yet, such as 10m')
    .option('--run-at <time>', 'when it is to be run at the earliest, such as 2026-12-01T08:00:00Z')
    .option('--priority <number>', 'lower runs first (default: 100)')
    .option('--idempotency-key <key>', 'the same key gives the same job, however often it is enqueued')
    .option('--tenant <name>', 'whose job this is')
    .option('--concurrency-key <key>', 'jobs with the same key do not run at once')
    .option('--concurrency-limit <number>', 'how many of them may (default: 1)')
    .option('--concurrency-then <what>', 'when they are too many: wait, cancel-running, cancel-waiting or drop (default: wait)')
    .option('--event <type>', `what is told of it besides its end, also to webhooks given here; may be given several times: ${eventKinds.filter((kind) => kind !== 'completed').join(', ')}`, collect)
    .option('--webhook <NAME=URL>', 'where its events are posted to, and the variable whose value signs them where they are delivered; may be given several times', collect)
    .option('-f, --file <file>', 'a job as JSON; - for stdin. Flags are laid over it')
    .option('-w, --wait', 'show the output on stderr and wait until the job has ended; exit 1 if it did not succeed. Ctrl-C ends the waiting, not the job')
  withConfigOption(withJsonOption(command, 'the id, or with --wait the result,'))
  command
    .addHelpText(
      'after',
      `
Examples:
  switchyard enqueue -r acme/web -s 'npm ci' -s 'npm test' --no-push --wait
  switchyard enqueue -r acme/web -s './agent "fix the failing test"' --secret API_KEY --promote fix/failing-test
  switchyard enqueue -r acme/web -s './agent "fix it"' --promote fix/it --pull-request-title 'Fix it' --artifact 'coverage/**'
  switchyard enqueue --file job.json --wait --json`,
    )
    .action(async (flags: Flags) => {
      const file = flags.file === undefined ? {} : await readSpecFile(flags.file)
      const spec = specFromFlags(flags, file)
      const { withQueue } = await import('../open-queue.js')
      await withQueue(flags, async (queue) => {
        // The queue checks the spec; nothing that was typed is a spec before that.
        const job = await queue.enqueue(spec as JobSpecInput)
        if (flags.wait !== true) {
          if (flags.json === true) printJson({ jobId: job.jobId })
          else print(job.jobId)
          return
        }
        const result = await waitForEnd(job, flags.json !== true)
        if (result === undefined) {
          process.exitCode = exitCodes.interrupted
          return
        }
        if (flags.json === true) printJson(result)
        else print([resultReport(result), failedOutput(result)].filter((part) => part !== '').join('\n'))
        if (result.status !== 'succeeded') process.exitCode = exitCodes.jobFailed
      })
    })
}

/** Shows the output meanwhile. @returns undefined when it was stopped, which stops only the waiting. */
async function waitForEnd(job: JobHandle, withOutput: boolean): Promise<JobResult | undefined> {
  const { LogPrinter } = await import('../log-printer.js')
  using stop = listenForStop()
  const { signal } = stop
  const show = async () => {
    const printer = new LogPrinter()
    for await (const line of job.logs({ follow: true, signal })) await pass(process.stderr, printer.add(line))
    await pass(process.stderr, printer.end())
  }
  if (withOutput) say(`job ${job.jobId}: waiting for its end`)
  try {
    const [result] = await Promise.all([job.result({ signal }), withOutput ? show() : undefined])
    return result
  } catch (error) {
    if (!signal.aborted) throw error
    if (stop.received !== undefined) say(`\njob ${job.jobId} goes on; "switchyard logs ${job.jobId} --follow" shows its output, "switchyard cancel ${job.jobId}" ends it`)
    return undefined
  }
}
