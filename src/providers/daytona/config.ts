import { z } from 'zod'
import { duration } from '../../job/duration.js'
import { maxResourcesSchema } from '../refusal.js'

const environmentName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'is not the name of an environment variable')

/**
 * A Daytona account (one organisation, one region) as a provider. The API key never stands in a configuration: it is
 * read from the environment variable that `apiKeyEnv` names, when the provider is first used. The schema takes the
 * adapter's own options; `limit` of a provider's entry is not among them.
 */
export const daytonaProviderConfigSchema = z
  .strictObject({
    type: z.literal('daytona').optional(),
    name: z
      .string()
      .regex(/^[a-z0-9][a-z0-9-]{0,31}$/, 'must be lower-case letters, digits and "-", at most 32')
      .default('daytona')
      .describe('Unique among the deployment\'s providers.'),
    apiKeyEnv: environmentName.default('DAYTONA_API_KEY').describe('The environment variable that holds the API key.'),
    apiUrl: z
      .url({ protocol: /^https?$/, error: 'must be an http or https URL' })
      .transform((url) => url.replace(/\/+$/, ''))
      .default('https://app.daytona.io/api')
      .describe('The API\'s base URL. Always given to the SDK, so that no file of the working folder can redirect the key.'),
    target: z.string().min(1).optional().describe('The region; the organisation\'s default if left out.'),
    snapshot: z.string().min(1).optional().describe('The snapshot for jobs that name no image; the organisation\'s default if left out.'),
    image: z.string().min(1).optional().describe('The container image for jobs that name none. Needed for jobs that set resources.'),
    enforcesNames: z
      .boolean({ error: 'must be true or false' })
      .optional()
      .describe('Whether its runners enforce lists of host names. Those of a self-hosted Daytona up to 0.190 leave the network open instead. Left out, `doctor` or the first sandbox with such a list finds out, by trying to reach Daytona’s API; false sends such jobs elsewhere at once, true tries nothing.'),
    secrets: z
      .record(environmentName, z.string().min(1, 'is empty; give the name of a secret of the organisation'), { error: 'must be an object such as { "ANTHROPIC_API_KEY": "anthropic-prod" }' })
      .optional()
      .describe('Secrets that the organisation keeps, by the names that jobs with `inject` have for them, such as { "ANTHROPIC_API_KEY": "anthropic-prod" }. Sandboxes get Daytona’s placeholder, for which Daytona puts in the value on the way to the hosts of its secret.'),
    maxResources: maxResourcesSchema.describe('The most that one sandbox of the organisation may have, when you know it. A job that asks for more is not sent here.'),
    maxLifetime: duration
      .optional()
      .describe('The longest lifetime that the organisation allows a sandbox, when it has such a limit.'),
  })
  .refine((config) => config.snapshot === undefined || config.image === undefined, {
    path: ['image'],
    error: 'cannot be set together with snapshot; keep the one that jobs without an image are to get',
  })

/** As users write it. */
export type DaytonaProviderConfigInput = z.input<typeof daytonaProviderConfigSchema>
/** Checked, defaults filled in, durations in milliseconds. */
export type DaytonaProviderConfig = z.output<typeof daytonaProviderConfigSchema>
