import type { CompletionEvent } from '../../events/index.js'
import type { LogLine } from '../../job/log.js'
import type { JobResult } from '../../job/result.js'
import type { JobSpecInput } from '../../job/spec.js'

/**
 * The demo's three jobs, and what each must have come to. Pure: what was seen goes in, the complaints come out.
 */

export const demoRepository = 'demo/switchyard'
/** Two providers on this machine, so that there is another one to go on at. */
export const demoProviders = { first: 'local-a', second: 'local-b' } as const

/** How many parts the second job's long step makes, and after how many of them its sandbox is killed. */
export const partsInAll = 8
export const partsBeforeKill = 3

/** What was seen of a job, for its check. */
export interface Seen {
  readonly result: JobResult
  readonly lines: readonly LogLine[]
  /** Where the promotion's target stands now; null when there is no such branch. */
  readonly target: string | null
}

export interface DemoJob {
  readonly key: 'change' | 'failover' | 'failure'
  /** What it shows, in a sentence. */
  readonly shows: string
  readonly spec: JobSpecInput
  /** The branch that its promotion is to move. */
  readonly target: string
  /** What did not come out as intended; empty when all did. */
  complaints(seen: Seen): string[]
}

const change: DemoJob = {
  key: 'change',
  shows: 'changes a file, runs the repository’s own check, is pushed and promoted to main',
  target: 'main',
  spec: {
    repository: demoRepository,
    steps: [
      { name: 'change', run: `printf '# A note\\n\\nWritten in a sandbox.\\n' > NOTE.md\necho "wrote NOTE.md in $(pwd)"` },
      // A checkout that has no check of its own is checked for what git itself objects to.
      { name: 'check', run: 'git add --intent-to-add . && if [ -f script/check-text ]; then sh script/check-text; else git diff --check HEAD; fi' },
    ],
    push: { message: 'Add a note from a sandbox' },
    promote: { to: 'main', strategy: 'ff_only' },
    timeout: '2m',
  },
  complaints({ result, target }) {
    return [
      ...expectEqual('status', result.status, 'succeeded'),
      ...expectEqual('attempts', result.attempts.length, 1),
      ...expectEqual('steps', stepsRun(result), 'change=0 check=0'),
      ...expectEqual('promotion', result.promoted?.result, 'fast_forward'),
      ...expectEqual('main', target, result.commit),
      ...expectEqual('changed paths', result.diff?.paths.join(), 'NOTE.md'),
    ]
  },
}

const failover: DemoJob = {
  key: 'failover',
  shows: 'loses its sandbox in its second step and goes on at the other provider from its checkpoint',
  target: 'demo/failover',
  spec: {
    repository: demoRepository,
    steps: [
      { name: 'prepare', run: `cat /proc/sys/kernel/random/uuid > prepared.txt 2>/dev/null || date +%s%N > prepared.txt\n: > parts.txt\necho "prepared once: $(cat prepared.txt)"` },
      {
        name: 'work',
        run: [
          `[ -f "$HOME/sandbox-id" ] || { cat /proc/sys/kernel/random/uuid > "$HOME/sandbox-id" 2>/dev/null || date +%s%N > "$HOME/sandbox-id"; }`,
          `while [ "$(wc -l < parts.txt)" -lt ${partsInAll} ]; do`,
          `  echo "part $(( $(wc -l < parts.txt) + 1 )) made in sandbox $(cut -c1-8 "$HOME/sandbox-id")" >> parts.txt`,
          '  tail -n 1 parts.txt',
          '  sleep 0.5',
          'done',
        ].join('\n'),
      },
      { name: 'report', run: 'cat prepared.txt parts.txt' },
    ],
    push: { message: 'Finish in another sandbox' },
    promote: { to: 'demo/failover', strategy: 'ff_only' },
    checkpoint: { everySeconds: 1 },
    providers: { prefer: [demoProviders.first] },
    timeout: '2m',
  },
  complaints({ result, lines, target }) {
    const [lost, went] = result.attempts
    const report = outputOf(lines, 'report')
    return [
      ...expectEqual('status', result.status, 'succeeded'),
      ...expectEqual('attempts', result.attempts.map((attempt) => attempt.outcome).join(), 'lost,succeeded'),
      ...expectEqual('why the first ended', lost?.error?.kind, 'sandbox-lost'),
      ...expectEqual('whether it went to another provider', went !== undefined && went.provider !== lost?.provider, true),
      ...expectEqual('steps', stepsRun(result), 'prepare=0 work=0 report=0'),
      ...expectEqual('sandboxes in which the first step ran', attemptsOf(lines, 'prepare').join(), '1'),
      ...expectEqual('sandboxes in which the second step ran', attemptsOf(lines, 'work').join(), '1,2'),
      ...expectEqual('what the first step made', report.split('\n')[0], /prepared once: (\S+)/.exec(outputOf(lines, 'prepare'))?.[1]),
      ...expectEqual('parts', partNumbers(report).join(), Array.from({ length: partsInAll }, (_, index) => index + 1).join()),
      ...expectEqual('sandboxes that made parts', sandboxesOf(report).length, 2),
      ...expectEqual('demo/failover', target, result.commit),
    ]
  },
}

const failure: DemoJob = {
  key: 'failure',
  shows: 'runs a command that exits with 3: a failed job, no retry, nothing promoted',
  target: 'demo/never',
  spec: {
    repository: demoRepository,
    steps: [{ name: 'fail', run: `echo 'this goes to stdout'\necho 'no such luck' >&2\nexit 3` }, { name: 'never', run: 'echo not reached' }],
    promote: { to: 'demo/never', strategy: 'ff_only' },
    timeout: '2m',
  },
  complaints({ result, target }) {
    return [
      ...expectEqual('status', result.status, 'failed'),
      ...expectEqual('error', result.error?.kind, 'step-failed'),
      ...expectEqual('attempts', result.attempts.length, 1),
      ...expectEqual('steps', stepsRun(result), 'fail=3'),
      ...expectEqual('output', `${result.steps[0]?.stdoutTail ?? ''}${result.steps[0]?.stderrTail ?? ''}`, 'this goes to stdout\nno such luck\n'),
      ...expectEqual('promotion', result.promoted, null),
      ...expectEqual('demo/never', target, null),
    ]
  },
}

export const demoJobs: readonly DemoJob[] = [change, failover, failure]

/** Complaints about the events: each job's end must have been told of, under its own id. */
export function eventComplaints(results: readonly JobResult[], events: readonly CompletionEvent[]): string[] {
  return results.flatMap((result) => {
    const own = events.filter((event) => event.subject === result.jobId)
    return [
      ...expectEqual(`events of ${result.jobId}`, new Set(own.map((event) => event.id)).size, 1),
      ...expectEqual(`type of the event of ${result.jobId}`, own[0]?.type, `dev.switchyard.job.${result.status}`),
    ]
  })
}

/** What a step printed on stdout, all attempts together. */
export function outputOf(lines: readonly LogLine[], step: string): string {
  return lines.filter((line) => line.step === step && line.stream === 'stdout').map((line) => line.text).join('')
}

/** The numbers of the parts, in the order in which they stand. */
export function partNumbers(text: string): number[] {
  return [...text.matchAll(/^part (\d+) made/gm)].map((match) => Number(match[1]))
}

/** The sandboxes that made parts, in order. */
export function sandboxesOf(text: string): string[] {
  return [...new Set([...text.matchAll(/made in sandbox (\S+)/g)].map((match) => match[1] ?? ''))]
}

function attemptsOf(lines: readonly LogLine[], step: string): number[] {
  return [...new Set(lines.filter((line) => line.step === step && line.stream === 'stdout').map((line) => line.attempt))]
}

function stepsRun(result: JobResult): string {
  return result.steps.map((step) => `${step.name}=${step.exitCode ?? 'stopped'}`).join(' ')
}

function expectEqual(what: string, seen: unknown, intended: unknown): string[] {
  return Object.is(seen, intended) ? [] : [`${what}: ${String(seen)} instead of ${String(intended)}`]
}
