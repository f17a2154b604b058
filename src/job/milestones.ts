import type { Milestone, RunRecord } from './run-record.js'

/** How the milestones of a run come to be; what they are says `milestoneSchema`. */

/** Of a run. Checkpoints in a row are one entry, so that only steps, waits and moves count. */
export const mostMilestones = 200
const longestText = 120

const shownPhases: ReadonlySet<string> = new Set<RunRecord['phase']>(['preparing', 'pushing', 'promoting'])

type Told = Pick<RunRecord, 'milestones' | 'startedAtMs' | 'phase' | 'running' | 'checkpoint' | 'steps' | 'setupIndex' | 'stepIndex'>

export interface MilestoneChange {
  readonly before: Told
  readonly after: Told
  /** What the job waits for, before and after. */
  readonly waited: string | null
  readonly waits: string | null
  readonly spec: { readonly setup: readonly { readonly name: string }[]; readonly steps: readonly { readonly name: string }[] }
  /** Milliseconds since 1970. */
  readonly nowMs: number
}

/** The milestones after a change of a run; the same list when there is nothing new. Entries that did not change are the same ones. */
export function milestonesAfter({ before, after, waited, waits, spec, nowMs }: MilestoneChange): Milestone[] {
  if (waited === waits && before.phase === after.phase && before.running === after.running && before.checkpoint === after.checkpoint) return before.milestones
  const list = new Milestones(before.milestones, Math.max(0, Math.round(nowMs - before.startedAtMs)))
  const [ran, runs] = [before.running, after.running]
  if (ran !== null && runs?.key !== ran.key) list.end(before.phase === 'setup' ? 'setup' : 'step', endOf(before, after))
  list.leave(after.phase)
  if (waited !== waits && waited !== null) list.end('wait', null)
  if (after.checkpoint !== null && after.checkpoint !== before.checkpoint && after.checkpoint.branch !== null) list.saved(after.checkpoint.sha)
  if (before.phase !== after.phase && shownPhases.has(after.phase)) list.begin('phase', after.phase)
  if (runs !== null && runs.key !== ran?.key) {
    const inSetup = after.phase === 'setup'
    list.begin(inSetup ? 'setup' : 'step', (inSetup ? spec.setup[after.setupIndex] : spec.steps[after.stepIndex])?.name ?? runs.key)
  }
  if (waited !== waits && waits !== null) list.begin('wait', waits)
  return list.entries
}

/** The milestones when a run is taken over by another consumer. */
export function takenOver({ milestones, startedAtMs }: Pick<RunRecord, 'milestones' | 'startedAtMs'>, consumer: string, nowMs: number): Milestone[] {
  const list = new Milestones(milestones, Math.max(0, Math.round(nowMs - startedAtMs)))
  // The next supervisor finds out by itself what is to be waited for.
  list.end('wait', null)
  list.at('taken', consumer)
  return list.entries
}

/** The exit code of the step that ran before and has ended; null where it did not, or was one of setup's. */
function endOf(before: Told, after: Told): number | null {
  if (before.phase === 'setup') return after.setupIndex > before.setupIndex ? 0 : null
  return after.steps.length > before.steps.length ? (after.steps.at(-1)?.exitCode ?? null) : null
}

class Milestones {
  #entries: Milestone[]
  #own = false

  constructor(entries: Milestone[], private readonly nowMs: number) {
    this.#entries = entries
  }

  get entries(): Milestone[] {
    return this.#entries
  }

  begin(what: string, text: string): void {
    this.#push([what, this.nowMs, null, text.slice(0, longestText), null])
  }

  at(what: string, text: string): void {
    this.#push([what, this.nowMs, this.nowMs, text.slice(0, longestText), null])
  }

  saved(sha: string): void {
    const last = this.#entries.at(-1)
    if (last?.[0] === 'saved') this.#replace(this.#entries.length - 1, ['saved', last[1], Math.max(last[1], this.nowMs), sha.slice(0, 12), (last[4] ?? 1) + 1])
    else this.#push(['saved', this.nowMs, this.nowMs, sha.slice(0, 12), 1])
  }

  /** Ends the phase that lasts on, if it is another one: it may have been left by a change that came without milestones. */
  leave(phase: string): void {
    if (this.#entries.some(([kind, , until, text]) => kind === 'phase' && until === null && text !== phase)) this.end('phase', null)
  }

  /** The latest entry of its kind that lasts on. */
  end(what: string, code: number | null): void {
    const index = this.#entries.findLastIndex(([kind, , until]) => kind === what && until === null)
    const entry = this.#entries[index]
    if (entry !== undefined) this.#replace(index, [what, entry[1], Math.max(entry[1], this.nowMs), entry[3], code])
  }

  #push(entry: Milestone): void {
    if (this.#entries.length < mostMilestones) {
      this.#entries = [...this.#entries, entry]
      return
    }
    const last = this.#entries.at(-1)
    const from = last?.[0] === 'more' ? last[1] : this.nowMs
    this.#replace(this.#entries.length - 1, ['more', from, Math.max(from, this.nowMs), '', last?.[0] === 'more' ? (last[4] ?? 0) + 1 : 2])
  }

  #replace(index: number, entry: Milestone): void {
    if (!this.#own) this.#entries = [...this.#entries]
    this.#own = true
    this.#entries[index] = entry
  }
}
