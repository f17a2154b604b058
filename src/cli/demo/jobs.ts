import type { CompletionEvent } from '../../events/index.js'
import type { LogLine } from '../../job/log.js'
import type { JobResult } from '../../job/result.js'
import type { JobSpecInput } from '../../job/spec.js'

/**
 * The demo's jobs, and what each must have come to. Pure: what was seen goes in, the complaints come out.
 */

/** Where the jobs run. */
export interface Cast {
  readonly repository: string
  /** The providers by name, at least two, in the order in which the failover job tries them. */
  readonly providers: readonly string[]
  /** Those of them that have no place left once the failover job has lost its sandbox. */
  readonly full: readonly string[]
  /** Whether one and the same job runs at each provider; else one job runs wherever there is room. */
  readonly everywhere: boolean
  /** How long each job may take, such as `2m`. */
  readonly timeout: string
}

/** How many parts the failover job's long step makes, and after how many of them its first sandbox gets no further. */
const partsInAll = 8
export const partsBeforeKill = 3

/** What was seen of a job, for its check. */
export interface Seen {
  readonly result: JobResult
  readonly lines: readonly LogLine[]
  /** Where the promotion's target stands now; null when there is no such branch. */
  readonly target: string | null
}

export interface DemoJob {
  /** What it is called; the one whose sandbox is killed is `failover`. */
  readonly key: string
  /** What it shows, in a sentence. */
  readonly shows: string
  readonly spec: JobSpecInput
  /** The branch that its promotion is to move. */
  readonly target: string
  /** What did not come out as intended; empty when all did. */
  complaints(seen: Seen): string[]
}

function change(cast: Cast, where: { readonly key: string; readonly shows: string; readonly target: string; readonly at?: string }): DemoJob {
  const { key, shows, target, at } = where
  return {
    key,
    shows,
    target,
    spec: {
      repository: cast.repository,
      steps: [
        { name: 'change', run: `printf '# A note\\n\\nWritten in a sandbox.\\n' > NOTE.md\necho "wrote NOTE.md in $(pwd)"` },
        // A checkout that has no check of its own is checked for what git itself objects to.
        { name: 'check', run: 'git add --intent-to-add . && if [ -f script/check-text ]; then sh script/check-text; else git diff --check HEAD; fi' },
      ],
      push: { message: 'Add a note from a sandbox' },
      promote: { to: target, strategy: 'ff_only' },
      timeout: cast.timeout,
      ...(at === undefined ? {} : { providers: { allow: [at] } }),
    },
    complaints({ result, target: head }) {
      return [
        ...expectEqual('status', result.status, 'succeeded'),
        ...expectEqual('attempts', result.attempts.length, 1),
        ...(at === undefined ? [] : expectEqual('provider', result.attempts[0]?.provider, at)),
        ...expectEqual('steps', stepsRun(result), 'change=0 check=0'),
        ...expectEqual('promotion', result.promoted?.result, target === 'main' ? 'fast_forward' : 'created'),
        ...expectEqual(target, head, result.commit),
        ...expectEqual('changed paths', result.diff?.paths.join(), 'NOTE.md'),
      ]
    },
  }
}

function failover(cast: Cast): DemoJob {
  const [first = '', ...others] = cast.providers
  const end = others.filter((name) => !cast.full.includes(name))
  const passingBy = cast.full.length === 0 ? '' : `, finds no place at ${cast.full.join(' and ')}`
  return {
    key: 'failover',
    shows: cast.everywhere
      ? `starts at ${first}, loses its sandbox in its second step${passingBy} and goes on at ${end.length === 1 ? end.join() : 'another provider'} from its checkpoint`
      : 'loses its sandbox in its second step and goes on at the other provider from its checkpoint',
    target: 'demo/failover',
    spec: {
      repository: cast.repository,
      steps: [
        {
          name: 'prepare',
          // What lies beside the work tree is lost with the sandbox.
          run: `: > "$HOME/first-sandbox"\n${unique} > prepared.txt\n: > parts.txt\necho "prepared once: $(cat prepared.txt)"`,
        },
        {
          name: 'work',
          run: [
            `[ -f "$HOME/sandbox-id" ] || ${unique} > "$HOME/sandbox-id"`,
            `while [ "$(wc -l < parts.txt)" -lt ${partsInAll} ]; do`,
            `  echo "part $(( $(wc -l < parts.txt) + 1 )) made in sandbox $(cut -c1-8 "$HOME/sandbox-id")" >> parts.txt`,
            '  tail -n 1 parts.txt',
            '  sleep 0.5',
            '  # Here it is killed.',
            `  while [ -f "$HOME/first-sandbox" ] && [ "$(wc -l < parts.txt)" -ge ${partsBeforeKill} ]; do sleep 1; done`,
            'done',
          ].join('\n'),
        },
        { name: 'report', run: 'cat prepared.txt parts.txt' },
      ],
      push: { message: 'Finish in another sandbox' },
      promote: { to: 'demo/failover', strategy: 'ff_only' },
      checkpoint: { everySeconds: 1 },
      providers: { prefer: cast.everywhere ? [...cast.providers] : [first] },
      timeout: cast.timeout,
    },
    complaints({ result, lines, target }) {
      const [lost, went] = result.attempts
      const report = outputOf(lines, 'report')
      const told = lines.filter(({ stream }) => stream === 'system').map(({ text }) => text).join('')
      return [
        ...expectEqual('status', result.status, 'succeeded'),
        ...expectEqual('attempts', result.attempts.map((attempt) => attempt.outcome).join(), 'lost,succeeded'),
        ...(cast.everywhere ? expectEqual('where it started', lost?.provider, first) : []),
        ...expectEqual('why the first ended', lost?.error?.kind, 'sandbox-lost'),
        ...expectEqual('whether it went to another provider with a place', went !== undefined && went.provider !== lost?.provider && !cast.full.includes(went.provider), true),
        ...cast.full.flatMap((name) => expectEqual(`whether ${name} had no place`, told.includes(`${name} had no place (capacity)`), true)),
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
}

function failure(cast: Cast): DemoJob {
  return {
    key: 'failure',
    shows: 'runs a command that exits with 3: a failed job, no retry, nothing promoted',
    target: 'demo/never',
    spec: {
      repository: cast.repository,
      steps: [{ name: 'fail', run: `echo 'this goes to stdout'\necho 'no such luck' >&2\nexit 3` }, { name: 'never', run: 'echo not reached' }],
      promote: { to: 'demo/never', strategy: 'ff_only' },
      timeout: cast.timeout,
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
}

/** Prints something that no other process prints. */
const unique = '{ cat /proc/sys/kernel/random/uuid 2>/dev/null || date +%s%N; }'

export function demoJobs(cast: Cast): readonly DemoJob[] {
  const what = 'changes a file, runs the repository’s own check, is pushed and promoted to'
  const changes = cast.everywhere
    ? cast.providers.map((name) => change(cast, { key: name, shows: `one and the same job, here at ${name}: ${what} demo/${name}`, target: `demo/${name}`, at: name }))
    : [change(cast, { key: 'change', shows: `${what} main`, target: 'main' })]
  return [...changes, failover(cast), failure(cast)]
}

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
