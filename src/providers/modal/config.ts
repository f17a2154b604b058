import { z } from 'zod'
import { duration } from '../../job/duration.js'
import { maxResourcesSchema } from '../refusal.js'

/** The longest lifetime that Modal gives a sandbox: 24 hours. */
const modalMaxLifetimeMs = 24 * 60 * 60 * 1000

const environmentName = z
  .string({ error: 'must be the name of an environment variable' })
  .regex(/^[A-Za-z_]\w*$/, 'must be the name of an environment variable: letters, digits and "_", no digit first')

const objectName = (what: string) =>
  z
    .string({ error: `must be a text; give ${what}` })
    .regex(/^[a-zA-Z0-9._-]{1,63}$/, 'must be 1 to 63 letters, digits, ".", "_" and "-"')

/**
 * What the Modal adapter takes. Credentials are not part of it: it names the environment variables that hold them, so
 * that a configuration can be printed, logged and committed.
 */
export const modalProviderConfigSchema = z.strictObject({
  type: z.literal('modal').optional(),
  name: z
    .string({ error: 'must be a text' })
    .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be lower-case letters, digits and "-"')
    .default('modal')
    .describe('The name by which jobs, logs and limits call this provider.'),
  app: objectName('the name of a Modal app')
    .default('switchyard')
    .describe('The Modal app that holds the sandboxes; made with the first one if it does not exist.'),
  image: z
    .string({ error: 'must be a text' })
    .min(1, 'is empty; leave it out for the default')
    .default('buildpack-deps:bookworm-scm')
    .describe('The image of jobs that name none: a registry tag, or the id of an image of Modal’s (im-…). It needs git, sh and CA certificates.'),
  environment: objectName('the name of a Modal environment').optional().describe('Modal’s environment; the workspace’s default if left out.'),
  tokenIdEnv: environmentName.default('MODAL_TOKEN_ID').describe('The environment variable that holds the token’s id.'),
  tokenSecretEnv: environmentName.default('MODAL_TOKEN_SECRET').describe('The environment variable that holds the token’s secret.'),
  serverUrl: z
    .url({ protocol: /^https?$/, error: 'must be a URL such as "https://api.modal.com:443"' })
    .optional()
    .describe('Modal’s API; MODAL_SERVER_URL or Modal’s own if left out.'),
  regions: z.array(z.string().min(1)).min(1, 'is empty; leave it out for any region').optional().describe('Where sandboxes may run, such as us-east.'),
  cloud: z.string().min(1, 'is empty; leave it out for any cloud').optional().describe('The cloud to run on, such as aws.'),
  injectHeaders: z
    .boolean({ error: 'must be true or false' })
    .default(false)
    .describe(
      'Create sandboxes so that headers can be added to their traffic outside of them (Modal’s experimental outbound policy). Modal does it for HTTPS only, and not beside a list of allowed host names.',
    ),
  maxResources: maxResourcesSchema.describe(
    'The most that one sandbox may have: Modal’s own maxima if left out. A job that asks for more is not sent here.',
  ),
  maxLifetime: duration
    .refine((milliseconds) => milliseconds >= 60_000 && milliseconds <= modalMaxLifetimeMs, 'must be between 1m and 24h, which is as long as Modal lets a sandbox live')
    .default(modalMaxLifetimeMs)
    .describe('The longest lifetime to ask for. Modal can’t extend one later.'),
})

/** As users write it. */
export type ModalProviderConfigInput = z.input<typeof modalProviderConfigSchema>
/** Checked, defaults filled in, durations in milliseconds. */
export type ModalProviderConfig = z.output<typeof modalProviderConfigSchema>
