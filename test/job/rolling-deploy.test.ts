import { describe, expect, it } from 'vitest'
import { InvalidInputError, NewerReleaseError } from '../../src/job/errors.js'
import { jobResultSchema } from '../../src/job/result.js'
import { runRecordSchema } from '../../src/job/run-record.js'
import { parseJobSpec, parseQueuedSpec } from '../../src/job/spec.js'

// What the first release wrote, word for word. It is never changed: a field that a later release adds needs a default.
const error = { kind: 'sandbox-lost', message: 'gone' }
const attempt = { provider: 'e2b', sandboxId: 's1', startedAt: '2026-01-01T00:00:00.000Z', endedAt: '2026-01-01T00:01:00.000Z', outcome: 'lost', error }
const step = { name: 'step 1', exitCode: 0, durationMs: 5, stdoutTail: 'out', stderrTail: '' }
const firstRecord = {
  jobId: 'job', generation: 1, startedAtMs: 1, phase: 'steps', repository: 'acme/web',
  base: { ref: 'refs/heads/main', sha: 'a'.repeat(40) }, promoteFrom: { sha: null },
  creating: { provider: 'e2b', name: 'sy-1', atMs: 2 }, sandbox: { provider: 'e2b', id: 's1', createdAtMs: 3, repositoryPath: '/home/user/repository' },
  setupIndex: 0, stepIndex: 1, running: { key: 'step-1-1', startedAtMs: 4, stdoutOffset: 10, stderrOffset: 0 },
  checkpoint: { sha: 'b'.repeat(40), stepIndex: 1, headSha: 'a'.repeat(40), commitsAhead: 0, branch: 'checkpoint/job-1.1', atMs: 5 },
  checkpointBranches: ['checkpoint/job-1.1'], outcome: { status: 'failed', error }, abandoned: [{ provider: 'e2b', id: 's0' }],
  steps: [step], attempts: [attempt], finalCommit: null, pushed: false, promoted: { to: 'main', sha: 'c'.repeat(40), result: 'fast_forward' },
  diff: { files: 1, additions: 1, deletions: 0, paths: ['a'] }, usedMs: 6,
}
const firstResult = {
  jobId: 'job', status: 'failed', error, repository: 'acme/web', baseSha: 'a'.repeat(40), branch: 'agent/job', commit: 'b'.repeat(40),
  promoted: firstRecord.promoted, steps: [step], attempts: [attempt], diff: firstRecord.diff, usage: { sandboxSeconds: 1.5 }, metadata: { ticket: 7 },
}
const firstSpec = {
  repository: 'acme/web', env: {}, secrets: [], push: {}, checkpoint: { everySeconds: 60 }, providers: { prefer: [], deny: [] }, resources: {}, network: 'open',
  priority: 100, metadata: {}, timeoutMs: 3_600_000, setup: [], steps: [{ name: 'step 1', run: 'npm test', env: {} }],
}

describe('in a rolling deploy', () => {
  it('this release reads what the first one wrote', () => {
    expect(runRecordSchema.parse(firstRecord)).toMatchObject(firstRecord)
    expect(jobResultSchema.parse(firstResult)).toMatchObject(firstResult)
    expect(parseQueuedSpec(firstSpec)).toMatchObject(firstSpec)
  })

  it('a spec with fields of a newer release is told from one that is wrong', () => {
    const queued = JSON.parse(JSON.stringify(parseJobSpec({ repository: 'acme/web', steps: ['npm test'] }))) as Record<string, unknown>
    const newer = { ...queued, colour: 'blue', push: { sign: true }, checkpoint: { everySeconds: 60, keep: 3 } }
    expect(() => parseQueuedSpec(newer)).toThrow(NewerReleaseError)
    expect(() => parseQueuedSpec(newer)).toThrow(/push.sign: is not a known field.*unless a newer release wrote it/)
    for (const wrong of [{ ...newer, priority: 0 }, { ...newer, push: 7 }, { colour: 'blue' }, 'text']) {
      expect(() => parseQueuedSpec(wrong)).toThrow(InvalidInputError)
    }
  })
})
