import { describe, expect, it } from 'vitest'
import { type JobResult, jobResultSchema, shortResult, wholeResult } from '../../src/job/result.js'
import { type JobSpecInput, parseJobSpec, parseQueuedSpec, shortSpec, wholeSpec } from '../../src/job/spec.js'
import { result } from '../store/fixture.js'

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

describe('a spec is held short', () => {
  const base: JobSpecInput = { repository: 'acme/web', steps: ['true'] }
  it.each<[string, JobSpecInput]>([
    ['nothing but its steps', base],
    ['what is usual, written out', { ...base, setup: [], env: {}, secrets: [], push: {}, checkpoint: { everySeconds: 60 }, providers: { prefer: [], deny: [] }, resources: {}, network: 'open', timeout: '1h', priority: 100, metadata: {} }],
    ['everything else than usual', {
      ...base,
      ref: 'main',
      setup: ['npm ci', { name: 'more', run: 'true', env: { A: '1' } }],
      steps: [{ name: 'a', run: 'x', env: { B: '' }, timeout: '1m', cwd: 'sub' }, 'true'],
      env: { CI: '1' },
      secrets: ['KEY'],
      push: { message: 'm', keep: true },
      promote: { to: 'main' },
      checkpoint: { everySeconds: 60, paths: ['~/.agent'] },
      providers: { allow: ['a'], prefer: ['a'] },
      resources: { cpu: 1 },
      network: ['example.com'],
      timeout: '2h',
      waitTimeout: '1m',
      priority: 1,
      metadata: { none: null, list: [] },
      tenant: 't',
    }],
    ['no push', { ...base, push: false }],
    ['half of what is usual', { ...base, checkpoint: { everySeconds: 61 }, providers: { prefer: ['b'] }, priority: 101 }],
  ])('and read as it was: %s', (_what, input) => {
    const spec = parseJobSpec(input)
    const held = plain(shortSpec(spec))
    expect(plain(parseQueuedSpec(held))).toEqual(plain(spec))
    expect(plain(wholeSpec(held as object))).toEqual(plain(spec))
    // As an earlier release wrote it.
    expect(plain(parseQueuedSpec(plain(spec)))).toEqual(plain(spec))
    expect(plain(wholeSpec(plain(spec) as object))).toEqual(plain(spec))
  })

  it('and steps that were added by hand may be commands alone', () => {
    const held = { repository: 'acme/web', setup: ['npm ci'], steps: ['npm test', { run: 'true' }, { name: 'last', run: 'true' }] }
    const spec = parseJobSpec(held)
    expect(plain(parseQueuedSpec(held))).toEqual(plain(spec))
    expect(plain(wholeSpec(held))).toEqual(plain(spec))
    expect(() => parseQueuedSpec({ ...held, steps: [7] })).toThrow(/steps/)
  })

  it('without what nobody said', () => {
    expect(plain(shortSpec(parseJobSpec(base)))).toEqual({ repository: 'acme/web', steps: [{ run: 'true' }] })
  })
})

describe('a result is held short', () => {
  const attempt = { provider: 'a', startedAt: '2026-01-01T00:00:00.000Z' }
  it.each<[string, JobResult]>([
    ['of a job that never ran', result('job')],
    ['of one that did much', result('job', {
      status: 'failed',
      error: { kind: 'timeout', message: '' },
      baseSha: 'a'.repeat(40),
      branch: 'agent/job',
      commit: 'b'.repeat(40),
      promoted: { to: 'main', sha: 'b'.repeat(40), result: 'created' },
      steps: [{ name: 'a', exitCode: 0, durationMs: 0, stdoutTail: '', stderrTail: 'x' }, { name: 'step 2', exitCode: 0, durationMs: 0, stdoutTail: '', stderrTail: '' }, { name: 'step 2', exitCode: 0, durationMs: 0, stdoutTail: '', stderrTail: '' }, { name: 'b', exitCode: null, durationMs: 1, stdoutTail: 'y', stderrTail: '' }],
      attempts: [{ ...attempt, sandboxId: null, endedAt: null, outcome: 'unavailable', error: null }, { ...attempt, sandboxId: 's', endedAt: '2026-01-01T00:00:01.000Z', outcome: 'lost', error: { kind: 'sandbox-lost', message: 'gone' } }, { ...attempt, startedAt: '2026-01-01T00:00:00Z', sandboxId: 't', endedAt: '2026-01-01T00:00:01.5Z', outcome: 'succeeded', error: null }],
      diff: { files: 0, additions: 0, deletions: 0, paths: [] },
      unsaved: [{ path: 'a', reason: '' }],
      unsavedMore: 3,
      kept: [{ branch: 'kept/job/1', commit: 'c'.repeat(40), ref: 'refs/heads/x' }],
      usage: { sandboxSeconds: 0 },
      metadata: { none: null, empty: '', list: [] },
    })],
    ['of a job whose spec could not be read', result('job', { repository: '' })],
    ['of a consumer whose clock stood before 1970', result('job', { attempts: [{ ...attempt, startedAt: '1969-12-31T23:59:58.000Z', sandboxId: 's', endedAt: '1969-12-31T23:59:59.000Z', outcome: 'succeeded', error: null }] })],
  ])('and read as it was: %s', (_what, whole) => {
    for (const runId of ['job', 'other:job']) {
      const read = (held: unknown) => jobResultSchema.parse(wholeResult(plain(held), runId))
      expect(read(shortResult(whole, runId))).toEqual(whole)
      expect(read(whole)).toEqual(whole)
      // What a later release knows besides stays.
      expect(read(shortResult({ ...whole, later: null } as JobResult, runId))).toEqual({ ...whole, later: null })
    }
  })
})
