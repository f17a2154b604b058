import type { JobSpecInput } from '../../src/job/spec.js'
import type { Random } from './random.js'
import { Tree, type TreeEntries } from './tree.js'

/** What a job must come to, whatever happens on its way. Written by the script's author, read by the checker alone. */
export interface Expectation {
  readonly status: 'succeeded' | 'failed' | 'cancelled'
  readonly errorKind: 'step-failed' | 'timeout' | 'cancelled' | null
  /** Of the steps that ended, in order; null for one that ran into its timeout. Not known for a job that is cancelled. */
  readonly exitCodes: readonly (number | null)[] | null
  /** The whole tree of the job's branch; null when nothing is pushed, or nothing can be said. */
  readonly tree: TreeEntries | null
  /** The branch that is promoted to; must hold the very same commit. */
  readonly promotedTo: string | null
  /** How many commits the agent makes; with the one for the rest, what the branch is ahead of the base. */
  readonly ownCommits: number
  /** Standard output of each step that ends, from its first byte to its last. */
  readonly outputs: readonly string[]
}

export interface JobScript {
  readonly key: string
  readonly kind: JobKind
  readonly spec: JobSpecInput & { readonly repository: string }
  readonly expected: Expectation
  /** When it is enqueued, in milliseconds from the run's start. */
  readonly atMs: number
  /** When somebody cancels it, in milliseconds after it was enqueued. */
  readonly cancelAfterMs: number | null
}

const kindWeights = { plain: 50, promoted: 12, failing: 12, cancelled: 8, committing: 10, 'read-only': 5, 'timed-out': 3 }
export type JobKind = keyof typeof kindWeights
const noKinds = Object.fromEntries(Object.keys(kindWeights).map((kind) => [kind, 0])) as Record<JobKind, number>
const lightKindWeights = { plain: 75, promoted: 10, failing: 10, 'read-only': 5 }

/** The tree that every repository begins with. */
export const baseTree: TreeEntries = new Tree()
  .write('README.md', 'base\n')
  .write('keep/kept.txt', 'kept\n')
  .write('old/first.txt', 'goes away\n')
  .write('old/second.txt', 'may go away\n')
  .write('run.sh', '#!/bin/sh\necho base\n', true)
  .link('latest', 'keep/kept.txt')
  .write('data.bin', Buffer.from([0, 255, 10, 13, 0, 7]))
  .entries()

export interface ScriptOptions {
  readonly count: number
  readonly spanMs: number
  readonly repositories: readonly string[]
  readonly providers: readonly string[]
  /** One quick step a job. */
  readonly light: boolean
}

/** Jobs over `spanMs`, most of them in bursts, so that queues build up and drain. */
export function writeJobScripts(random: Random, options: ScriptOptions): JobScript[] {
  const scripts: JobScript[] = []
  let atMs = 0
  while (scripts.length < options.count) {
    const burst = Math.min(options.count - scripts.length, random.whole(1, 24))
    for (let index = 0; index < burst; index++) scripts.push(writeJobScript(random.fork(`job-${scripts.length}`), scripts.length, Math.round(atMs), options))
    atMs += (burst / options.count) * options.spanMs * (0.5 + random.next())
  }
  return scripts
}

function writeJobScript(random: Random, index: number, atMs: number, { repositories, providers, light }: ScriptOptions): JobScript {
  const kind = random.weighted<JobKind>(light ? { ...noKinds, ...lightKindWeights } : kindWeights)
  const tree = new Tree(baseTree)
  const stepCount = light ? 1 : random.whole(1, 4)
  const last = kind === 'failing' ? random.whole(0, stepCount - 1) : stepCount - 1
  const exitCode = random.pick([1, 2, 7, 42, 99, 126])
  const steps: { name: string; run: string; timeout?: string }[] = []
  const outputs: string[] = []
  let ownCommits = 0
  for (let step = 0; step < stepCount; step++) {
    const name = `work ${step + 1}`
    if (kind === 'timed-out' && step === last) {
      // It changes and prints nothing: how far it would get until its time is up is not for a script to say.
      steps.push({ name, run: 'sleep 600', timeout: '3s' })
      outputs.push('')
      continue
    }
    // A step that an attempt runs twice says so: the file is outside of the work tree and dies with the sandbox.
    const lines = [`echo run >>"$HOME/.runs-${step}"`, `echo "${name}: run $(grep -c . "$HOME/.runs-${step}") of $SCRIPT"`]
    const known = step > last ? new Tree(baseTree) : tree
    for (let change = random.whole(1, 4); change > 0; change--) lines.push(writeChange(random, known, `${step}-${change}`))
    if (!light) lines.push(...writePace(random))
    const printed = random.whole(0, 30)
    lines.push(`i=0; while [ $i -lt ${printed} ]; do i=$((i+1)); echo "line $i of ${index}"; done`)
    if (kind === 'committing' && step <= last && random.chance(0.7)) {
      ownCommits += 1
      known.write(`commits/${step}.txt`, `commit ${step}\n`)
      lines.push(`mkdir -p commits; echo "commit ${step}" >commits/${step}.txt; git add -A; git diff --cached --quiet || git -c user.name=Agent -c user.email=agent@example.invalid commit -qm "Own ${step}"`)
    }
    if (kind === 'failing' && step === last) lines.push(`exit ${exitCode}`)
    if (kind === 'cancelled' && step === last) lines.push('sleep 600')
    steps.push({ name, run: lines.join('\n') })
    outputs.push(`${name}: run 1 of ${index}\n${Array.from({ length: printed }, (_, line) => `line ${line + 1} of ${index}\n`).join('')}`)
  }
  const promotedTo = kind === 'promoted' ? `promoted/${index}` : null
  const pushes = kind !== 'read-only'
  return {
    key: `job-${index}`,
    kind,
    atMs,
    cancelAfterMs: kind === 'cancelled' ? random.whole(0, 8_000) : null,
    spec: {
      repository: random.pick(repositories),
      ref: 'main',
      steps,
      env: { SCRIPT: String(index) },
      idempotencyKey: `job-${index}`,
      metadata: { index, kind },
      checkpoint: { everySeconds: random.pick([1, 2, 60]) },
      timeout: '30m',
      ...(!light && random.chance(0.2) ? { setup: ['mkdir -p "$HOME/tools"'] } : {}),
      ...(random.chance(0.3) ? { priority: random.whole(1, 200) } : {}),
      ...(random.chance(0.2) ? { providers: { prefer: [random.pick(providers)] } } : {}),
      ...(pushes ? {} : { push: false as const }),
      ...(promotedTo === null ? {} : { promote: { to: promotedTo } }),
    },
    expected: {
      status: kind === 'cancelled' ? 'cancelled' : kind === 'failing' || kind === 'timed-out' ? 'failed' : 'succeeded',
      errorKind: kind === 'cancelled' ? 'cancelled' : kind === 'failing' ? 'step-failed' : kind === 'timed-out' ? 'timeout' : null,
      exitCodes: kind === 'cancelled' ? null : Array.from({ length: last + 1 }, (_, step) => (step < last ? 0 : kind === 'failing' ? exitCode : kind === 'timed-out' ? null : 0)),
      tree: kind === 'cancelled' || !pushes ? null : tree.entries(),
      promotedTo,
      ownCommits,
      outputs: outputs.slice(0, last + 1),
    },
  }
}

/** Time that a step takes: sometimes none, mostly a second or two, now and then long enough for checkpoints within. */
function writePace(random: Random): string[] {
  const seconds = random.weighted({ '0': 30, '0.3': 30, '1': 25, '2': 10, '4': 5 })
  return seconds === '0' ? [] : [`sleep ${seconds}`]
}

/** A change of the tree: its shell command, which may run twice, and the same in `tree`. */
function writeChange(random: Random, tree: Tree, label: string): string {
  const shell = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`
  switch (random.weighted({ text: 40, binary: 15, executable: 10, link: 10, deletion: 15, odd: 10 })) {
    case 'text': {
      const [path, text] = [`out/${label}.txt`, `text ${random.whole(0, 1_000_000)}\n`]
      tree.write(path, text)
      return `mkdir -p out; printf %s ${shell(text)} >${shell(path)}`
    }
    case 'binary': {
      const [path, data] = [`bin/${label}.bin`, random.bytes(random.whole(1, 2_000))]
      tree.write(path, data)
      return `mkdir -p bin; printf %s ${data.toString('base64')} | base64 -d >${shell(path)}`
    }
    case 'executable':
      tree.write(`tools/${label}.sh`, '#!/bin/sh\n', true).write('run.sh', '#!/bin/sh\necho base\n', false)
      return `mkdir -p tools; echo '#!/bin/sh' >tools/${label}.sh; chmod 755 tools/${label}.sh; chmod 644 run.sh`
    case 'link':
      tree.link('latest', `out/${label}.txt`)
      return `ln -sfn out/${label}.txt latest`
    case 'deletion':
      tree.remove('old/first.txt')
      return 'rm -f old/first.txt'
    case 'odd': {
      const path = `odd/${random.pick(['a b', 'ü', "it's", 'new\nline', '-dash', 'tab\t'])} ${label}`
      tree.write(path, '')
      return `mkdir -p odd; : >${shell(path)}`
    }
  }
}
