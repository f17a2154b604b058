import { expect, it } from 'vitest'
import { branchNameProblem, checkpointBranch, keptBranch, workBranch } from '../../src/job/names.js'
import fc from '../seeded-fast-check.js'

const names = (jobId: string) => {
  const run = { jobId, generation: 2, restart: null }
  return [workBranch({ ...run, generation: 1 }), workBranch(run), workBranch({ ...run, restart: { count: 1, atMs: 1, attemptsBefore: 1 } }), keptBranch(run, 3), checkpointBranch(jobId, 2, 1)]
}

it('the branches of a job bear its id, as it is where git takes it', () => {
  for (const jobId of ['key-0123', 'nightly-20261128T030000Z-0a1b2c3d', '4711', 'ünïcode', 'a.b']) {
    expect(names(jobId)).toEqual([`agent/${jobId}`, `agent/${jobId}-2`, `agent/${jobId}-2.2`, `kept/${jobId}-2/3`, `checkpoint/${jobId}-2.1`])
  }
  expect(names('repeat:nightly:1795848000000')[0]).toMatch(/^agent\/repeat-nightly-1795848000000-[0-9a-f]{12}$/)
  // What another queue has as well.
  expect(workBranch({ jobId: '1', runId: 'nightly:1', generation: 1, restart: null })).toMatch(/^agent\/nightly-1-[0-9a-f]{12}$/)
})

it('whatever its id, git takes them, and no other job has them', () => {
  const id = fc.oneof(fc.string({ unit: 'binary', minLength: 1, maxLength: 300 }), fc.constantFrom('a/b', 'a:b', 'x.lock', '..', '.', '@', '@{', '-', 'a\nb', 'a b', '~', 'x'.repeat(500)))
  fc.assert(
    fc.property(id, id, (one, other) => {
      for (const name of names(one)) expect(branchNameProblem(name)).toBeUndefined()
      if (one !== other) expect(names(one)[0]).not.toBe(names(other)[0])
    }),
  )
})
