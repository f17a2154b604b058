import type { Random } from '../chaos/random.js'
import type { KnownJob, Side, World } from './world.js'

/** One step of a walk. */
export interface Step {
  readonly world: World
  /** The step's own: what others draw meanwhile does not change what it does. */
  readonly random: Random
  readonly side: Side
}

export interface Operation {
  readonly name: string
  /** How often it comes, beside the others'. */
  readonly weight: number
  /** Only where the walk has that. */
  readonly needs?: 'budgets' | 'trouble' | 'restart' | 'phases'
  /** What it returns is noted. */
  readonly does: (step: Step) => Promise<unknown>
}

/** What is done to a job that was added, whether it is there or not; nothing while there is none. */
export function onJob(does: (job: KnownJob, step: Step) => Promise<unknown>): Operation['does'] {
  return async (step) => {
    const job = step.world.someJob(step.random)
    if (job === undefined) return
    step.world.journal.note('to', job.side.name, job.jobId)
    return await does(job, step)
  }
}

/** For what is said and taken back a while later. */
export function aWhile(random: Random): Promise<void> {
  return new Promise((passed) => setTimeout(passed, random.whole(200, 700)))
}
