import { z } from 'zod'
import { eventKindsSchema, signingSecretName, webhookUrl } from '../job/event-kinds.js'
import { networkProblem } from '../job/networks.js'

/** A receiver of a deployment's events. */
export const endpointSchema = z.strictObject({
  name: z
    .string({ error: 'is missing; give the receiver a name, such as "billing"' })
    .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'must be at most 63 lower-case letters, digits and "-"')
    .describe('Names its group of readers, "webhook:NAME", by which its dead events are found; another name begins anew.'),
  url: webhookUrl.describe('Where they are posted to.'),
  events: eventKindsSchema.min(1, 'is empty; leave it out for completion events').default(['completed']).describe('Which kinds it gets.'),
  secretName: signingSecretName.describe('The variable that holds its signing secret; several with blanks between them while it is changed, the new one first.'),
})
export type WebhookEndpoint = z.output<typeof endpointSchema>

export const webhookSettingsSchema = z.strictObject(
  {
    endpoints: z
      .array(endpointSchema)
      .max(50, 'are more than 50; let a receiver pass events on')
      .default([])
      .superRefine((endpoints, context) => {
        endpoints.forEach(({ name }, index) => {
          if (endpoints.findIndex((each) => each.name === name) !== index) context.addIssue({ code: 'custom', path: [index, 'name'], message: `"${name}" is used twice; give each receiver a name of its own` })
        })
      })
      .describe('Receivers that are told of all jobs.'),
    secrets: z.array(signingSecretName).default([]).describe('Variables with signing secrets that jobs may name in their own webhooks.'),
    allowNetworks: z
      .array(
        z.string({ error: 'must be a network such as "10.1.0.0/16"' }).superRefine((text, context) => {
          const problem = networkProblem(text)
          if (problem !== undefined) context.addIssue({ code: 'custom', message: `"${text}" ${problem}` })
        }),
      )
      .default([])
      .describe('Networks that are not public and may be called all the same; every other private address is refused.'),
    concurrency: z.int({ error: 'must be a whole number of deliveries' }).min(1, 'must be at least 1').max(500, 'must be at most 500').default(20).describe('How many events one process delivers to each receiver at once.'),
    deliver: z.boolean({ error: 'must be true or false' }).default(true).describe('Whether consumers deliver; false where another process does (startWebhooks).'),
  },
  { error: 'must be an object such as { endpoints: [{ name: "billing", url: "https://example.com/hooks", secretName: "BILLING_WEBHOOK_SECRET" }] }' },
)
export type WebhookSettings = z.output<typeof webhookSettingsSchema>
