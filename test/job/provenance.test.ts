import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { provenanceStatement } from '../../src/job/provenance.js'
import { newRunRecord } from '../../src/job/run-record.js'
import { parseJobSpec } from '../../src/job/spec.js'

describe('a provenance statement', () => {
  it('has the form of in-toto and SLSA v1, and names commands by their digest alone', () => {
    const spec = parseJobSpec({ repository: 'acme/web', ref: 'main', steps: ['echo hunter2'], promote: { to: 'done' } })
    const record = {
      ...newRunRecord({ jobId: 'j', generation: 2, repository: 'acme/web', startedAtMs: 0 }),
      base: { ref: 'refs/heads/main', sha: 'b'.repeat(40) },
      attempts: [{ provider: 'e2b', sandboxId: 's', startedAt: '2026-01-01T00:00:00.000Z', endedAt: null, outcome: 'succeeded' as const, error: null }],
      descends: false,
    }
    const statement = provenanceStatement({ commit: 'c'.repeat(40), spec, record, deployment: 'd', version: '1', finishedAtMs: 1000 })
    expect(statement).toMatchObject({
      _type: 'https://in-toto.io/Statement/v1',
      subject: [{ name: 'git:acme/web', digest: { gitCommit: 'c'.repeat(40) } }],
      predicateType: 'https://slsa.dev/provenance/v1',
      predicate: {
        buildDefinition: {
          buildType: 'urn:switchyard:agent-job:v1',
          externalParameters: { repository: 'acme/web', promoteTo: 'done', steps: [{ run: { sha256: createHash('sha256').update('echo hunter2').digest('hex') } }] },
          resolvedDependencies: [{ uri: 'git:acme/web@refs/heads/main', digest: { gitCommit: 'b'.repeat(40) } }],
        },
        runDetails: { builder: { id: 'urn:switchyard:deployment:d' }, metadata: { invocationId: 'j', startedOn: '1970-01-01T00:00:00.000Z' }, byproducts: [{ name: expect.stringContaining('rewrote') as unknown }] },
      },
    })
    expect(JSON.stringify(statement)).not.toContain('hunter2')
  })
})
