import { createHash } from 'node:crypto'
import type { RunRecord } from './run-record.js'
import type { JobSpec } from './spec.js'

/**
 * A provenance statement: in-toto's Statement v1 with SLSA's provenance v1 (slsa.dev/spec/v1.0/provenance). It says which job, run how
 * and where, made a commit. Commands are named by their digest: they may hold what is not for everybody who reads the repository.
 */

export const statementType = 'https://in-toto.io/Statement/v1'
export const predicateType = 'https://slsa.dev/provenance/v1'
/** What the parameters mean: those of a Switchyard job. */
export const buildType = 'urn:switchyard:agent-job:v1'

export interface ProvenanceFacts {
  /** The commit that holds the work. */
  readonly commit: string
  readonly spec: Pick<JobSpec, 'repository' | 'ref' | 'image' | 'setup' | 'steps' | 'promote'>
  readonly record: Pick<RunRecord, 'jobId' | 'generation' | 'base' | 'attempts' | 'startedAtMs' | 'checkpoint' | 'descends'>
  readonly deployment: string
  /** Of Switchyard. */
  readonly version: string
  readonly finishedAtMs: number
}

export function provenanceStatement({ commit, spec, record, deployment, version, finishedAtMs }: ProvenanceFacts) {
  const { jobId, generation, base, attempts, startedAtMs, checkpoint, descends } = record
  const uri = `git:${spec.repository}`
  const commands = (steps: JobSpec['steps']) => steps.map(({ name, run }) => ({ name, run: { sha256: createHash('sha256').update(run).digest('hex') } }))
  return {
    _type: statementType,
    subject: [{ name: uri, digest: { gitCommit: commit } }],
    predicateType,
    predicate: {
      buildDefinition: {
        buildType,
        externalParameters: { repository: spec.repository, ref: spec.ref ?? null, image: spec.image ?? null, setup: commands(spec.setup), steps: commands(spec.steps), promoteTo: spec.promote?.to ?? null },
        internalParameters: { generation, attempts: attempts.map(({ provider, sandboxId, startedAt, outcome }) => ({ provider, sandboxId, startedAt, outcome })) },
        resolvedDependencies: base === null ? [] : [{ uri: base.ref === null ? uri : `${uri}@${base.ref}`, digest: { gitCommit: base.sha } }],
      },
      runDetails: {
        builder: { id: `urn:switchyard:deployment:${deployment}`, version: { switchyard: version } },
        metadata: { invocationId: jobId, startedOn: new Date(startedAtMs).toISOString(), finishedOn: new Date(finishedAtMs).toISOString() },
        byproducts: [
          ...(checkpoint === null ? [] : [{ name: 'last checkpoint', digest: { gitCommit: checkpoint.sha } }]),
          ...(descends ? [] : [{ name: 'the agent rewrote the history that the job began with' }]),
        ],
      },
    },
  }
}
