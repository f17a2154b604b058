import { z } from 'zod'
import { errorOwners } from './error-owner.js'
import { lastingObject } from './lasting.js'

const count = z.int().min(0)

/** A file that a job left and that was stored. */
export const artifactSchema = lastingObject({
  /** In the repository. */
  path: z.string(),
  sizeBytes: count,
  /** By its name, such as `text/html`. */
  mediaType: z.string(),
  /** Of its bytes, in hexadecimal, as the consumer counted them. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** Where it is: `s3://BUCKET/KEY`, or a `file:` URL at the consumers. No link that opens it; `switchyard artifacts --links` makes those. */
  where: z.string(),
  /** Whether it was read from the job's sandbox, or from its last checkpoint because that was gone. */
  from: z.enum(['sandbox', 'checkpoint']),
})
export type Artifact = z.output<typeof artifactSchema>

/** What was asked for and could not be had. */
export const missedArtifactSchema = lastingObject({
  /** A path, or the pattern that nothing was found for. */
  path: z.string(),
  /** A clause. */
  reason: z.string(),
  /** Whose fault it is: the job's (its file, its pattern), the sandbox's or its provider's, the git host's, or the artifact store's, which is the consumer's. */
  owner: z.enum(errorOwners),
})
export type MissedArtifact = z.output<typeof missedArtifactSchema>

export const failingTestSchema = lastingObject({
  /** The class, file or suite that it is of; empty when the report doesn't say. */
  of: z.string(),
  name: z.string(),
  /** The first line of what it said. */
  message: z.string(),
})

/** The sums of the JUnit files among the artifacts. */
export const testSummarySchema = lastingObject({
  /** How many reports were summed up. */
  reports: count,
  tests: count,
  failures: count,
  errors: count,
  skipped: count,
  /** What the tests took together, in seconds. */
  timeSeconds: z.number().min(0),
  /** The first that failed, at most 20. */
  failing: z.array(failingTestSchema),
})
export type TestSummary = z.output<typeof testSummarySchema>

/** What became of a job's artifacts. */
export const collectedSchema = lastingObject({
  artifacts: z.array(artifactSchema).default([]),
  /** At most 100 of them. */
  artifactsMissed: z.array(missedArtifactSchema).default([]),
  /** How many more there were. */
  artifactsMissedMore: count.default(0),
  tests: testSummarySchema.nullable().default(null),
})
export type Collected = z.output<typeof collectedSchema>

/** How many that were missed are named. */
export const mostMissed = 100

/** What a job that leaves nothing has. */
export const nothingCollected: Collected = { artifacts: [], artifactsMissed: [], artifactsMissedMore: 0, tests: null }
