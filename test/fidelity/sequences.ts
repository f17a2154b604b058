import fc from 'fast-check'
import { has } from '../runner/process-sandbox.js'
import { sequence } from './operations.js'
import { doRandomWork } from './random-work.js'
import { modes, type World } from './world.js'

export interface SequenceOptions {
  readonly sequences: number
  readonly seed: number
  /** Where within the seed's sequences the one is that failed, to do it alone. */
  readonly path?: string | undefined
  /** How long it may look for a shorter sequence that fails as well, in milliseconds; 0 for not at all. */
  readonly shrinkMs: number
}

/** Random work, one sequence after the other. @returns the first that fails, with the way to repeat it; undefined when none does. */
export async function trySequences(world: World, { sequences, seed, path, shrinkMs }: SequenceOptions): Promise<string | undefined> {
  let failedAtMs: number | undefined
  // With brokered credentials a moved job finds pointers where it had LFS files, by design.
  const work = fc.constantFrom(...modes).chain((mode) => fc.tuple(fc.constant(mode), sequence({ lfs: mode !== 'brokered' && has('git-lfs') })))
  const property = fc.asyncProperty(work, async ([mode, events]) => {
    // What is left to be tried to shorten it counts as right.
    if (failedAtMs !== undefined && Date.now() - failedAtMs > shrinkMs) return
    const problems = await doRandomWork(world, mode, events)
    if (problems.length === 0) return
    failedAtMs ??= Date.now()
    throw new Error(problems.join('\n'))
  })
  const { failed, counterexample, counterexamplePath, errorInstance } = await fc.check(property, { numRuns: sequences, seed, ...(path === undefined ? {} : { path }), endOnFailure: shrinkMs === 0 })
  if (!failed || counterexample === null) return undefined
  const [[mode, events]] = counterexample
  const lines = events.map((event) => ('run' in event ? event.run : 'save' in event ? '# a checkpoint' : `# the sandbox is lost ${event.loseAfterMs} ms into the next line`))
  return [`${mode}:`, ...lines.map((line) => `    ${line}`), String(errorInstance), `again: npm run fidelity -- --sequences 1 --seed ${seed} --path ${counterexamplePath}`].join('\n')
}
