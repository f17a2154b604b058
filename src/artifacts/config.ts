import { resolve } from 'node:path'
import { z } from 'zod'
import { InvalidInputError } from '../job/errors.js'
import { FolderStore } from './folder-store.js'
import { S3Store } from './s3-store.js'
import type { ArtifactLimits, ArtifactStore } from './store.js'

const mebibyte = 1024 * 1024
const environmentName = z.string({ error: 'must be the name of an environment variable' }).regex(/^[A-Za-z_]\w*$/, 'must be the name of an environment variable: letters, digits and "_", no digit first')
const mebibytes = (most: number) => z.int({ error: 'must be a whole number of MiB' }).min(1, 'must be at least 1').max(most, `must be at most ${most}`)

const limits = {
  maxFileMiB: mebibytes(5 * 1024).default(100).describe('The largest file that is stored. Default 100.'),
  maxJobMiB: mebibytes(1024 * 1024).default(1024).describe('How much of one job is stored. Default 1024.'),
  maxFiles: z.int({ error: 'must be a whole number of files' }).min(1, 'must be at least 1').max(1000, 'must be at most 1000').default(500).describe('How many files of one job are stored. Default 500.'),
}

const folder = z.strictObject({
  folder: z.string({ error: 'must be the path of a folder' }).min(1, 'is empty; give the path of a folder').describe('A folder at the consumers; one that they share when there are several.'),
  ...limits,
})

const s3 = z.strictObject({
  s3: z.strictObject({
    bucket: z.string({ error: 'is missing; give the name of the bucket' }).regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'must be a bucket’s name: 3 to 63 lower-case letters, digits, "." and "-"').describe('The bucket’s name.'),
    prefix: z
      .string()
      .regex(/^[\w!.*'()/-]{0,200}$/, 'must be at most 200 letters, digits and characters of "_ ! . * \' ( ) / -"')
      .refine((prefix) => !prefix.startsWith('/') && !prefix.split('/').some((part) => part === '.' || part === '..') && !prefix.includes('//'), 'must begin with a name, and hold neither ".." nor "//"')
      .transform((prefix) => (prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`))
      .default('')
      .describe('Stands before the name of each object.'),
    region: z.string().min(1, 'is empty; leave it out or give a region').default('us-east-1').describe('The bucket’s region.'),
    endpoint: z.url({ protocol: /^https?$/, error: 'must be a URL such as "https://s3.example.com"' }).optional().describe('Of an S3 that is not Amazon’s.'),
    forcePathStyle: z.boolean().optional().describe('Whether the bucket stands in the path. Default: with an endpoint.'),
    accessKeyIdEnv: environmentName.optional().describe('The variable that holds the access key’s id. Left out: found as all of Amazon’s tools find it.'),
    secretAccessKeyEnv: environmentName.optional().describe('The variable that holds the access key itself.'),
    sessionTokenEnv: environmentName.optional().describe('The variable that holds the session’s token, of a key that has one.'),
  }).refine((options) => (options.accessKeyIdEnv === undefined) === (options.secretAccessKeyEnv === undefined), 'names one of accessKeyIdEnv and secretAccessKeyEnv; name both or neither'),
  ...limits,
})

/** Where artifacts go. */
export const artifactsConfigSchema = z.union([folder, s3], { error: 'must be { folder: "./artifacts" } or { s3: { bucket: "…" } }, and may hold maxFileMiB, maxJobMiB and maxFiles' })
export type ArtifactsConfig = z.output<typeof artifactsConfigSchema>

/**
 * Makes the configured store.
 * @param context.directory what a relative folder is relative to. Default: the working directory.
 * @throws InvalidInputError when a variable that it names is not set.
 */
export function createArtifactStore(config: ArtifactsConfig, context: { readonly directory?: string | undefined; readonly environment?: Readonly<Record<string, string | undefined>> } = {}): ArtifactStore {
  const bounds: ArtifactLimits = { maxFileBytes: config.maxFileMiB * mebibyte, maxJobBytes: config.maxJobMiB * mebibyte, maxFiles: config.maxFiles }
  if ('folder' in config) return new FolderStore(resolve(context.directory ?? '.', config.folder), bounds)
  const { accessKeyIdEnv, secretAccessKeyEnv, sessionTokenEnv, forcePathStyle, ...rest } = config.s3
  const environment = context.environment ?? process.env
  const valueOf = (field: string, name: string) => {
    const value = environment[name]
    if (value === undefined || value === '') throw new InvalidInputError(`artifacts.s3.${field}: the environment variable ${name} is not set; set it to the key`)
    return value
  }
  // Read at each use, as other keys are: they change without a restart.
  const credentials =
    accessKeyIdEnv === undefined || secretAccessKeyEnv === undefined
      ? undefined
      : () => ({
          accessKeyId: valueOf('accessKeyIdEnv', accessKeyIdEnv),
          secretAccessKey: valueOf('secretAccessKeyEnv', secretAccessKeyEnv),
          ...(sessionTokenEnv === undefined ? {} : { sessionToken: valueOf('sessionTokenEnv', sessionTokenEnv) }),
        })
  credentials?.()
  return new S3Store({ ...rest, forcePathStyle: forcePathStyle ?? rest.endpoint !== undefined, credentials }, bounds)
}
