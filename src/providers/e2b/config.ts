import { z } from 'zod'
import { duration } from '../../job/duration.js'
import { maxResourcesSchema } from '../refusal.js'

const environmentName = z
  .string({ error: 'must be the name of an environment variable' })
  .regex(/^[A-Za-z_]\w*$/, 'must be the name of an environment variable: letters, digits and "_", no digit first')
const baseUrl = z
  .url({ protocol: /^https?$/, error: 'must be an http or https URL such as "https://api.example.com"' })
  .transform((url) => url.replace(/\/+$/, ''))

/**
 * What the E2B adapter takes. The API key is not part of it: `apiKeyEnv` names the environment variable that holds it,
 * so that a configuration can be printed, logged and committed.
 */
export const e2bProviderConfigSchema = z.strictObject({
  type: z.literal('e2b').optional(),
  name: z
    .string({ error: 'must be a text' })
    .regex(/^[a-z0-9][a-z0-9-]{0,31}$/, 'must be lower-case letters, digits and "-", at most 32')
    .default('e2b')
    .describe('The name by which jobs, logs and limits call this provider.'),
  apiKeyEnv: environmentName.default('E2B_API_KEY').describe('The environment variable that holds the API key.'),
  template: z
    .string({ error: 'must be a text' })
    .min(1, 'is empty; leave it out for "base"')
    .default('base')
    .describe('The template of jobs that name no image. It needs git, sh and CA certificates; "base" has them.'),
  templates: z
    // At E2B resources belong to the template: a job can't set them.
    .record(z.string(), maxResourcesSchema)
    .default({})
    .describe('What your templates were built with. A job that asks for more than its template has is refused; for others its resources are ignored.'),
  user: z.string().min(1, 'is empty; leave it out for the template’s own').optional().describe('The user that commands run as; the template’s own if left out.'),
  apiUrl: baseUrl.optional().describe('The API of a self-hosted E2B; E2B_API_URL or E2B’s own if left out.'),
  sandboxUrl: baseUrl.optional().describe('The address of a self-hosted E2B’s sandboxes; E2B_SANDBOX_URL or E2B’s own if left out.'),
  maxLifetime: duration
    .default(3_600_000)
    .describe('The longest lifetime that your plan allows: 1h on Hobby (the default here), 24h on Pro. E2B counts it from the sandbox’s start.'),
})

/** As users write it. */
export type E2bProviderConfigInput = z.input<typeof e2bProviderConfigSchema>
/** Checked, defaults filled in, durations in milliseconds. */
export type E2bProviderConfig = z.output<typeof e2bProviderConfigSchema>
