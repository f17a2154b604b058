/** The process of its own that the conformance suite kills; see ./client-program.ts. */
import { z } from 'zod'
import { createProviders } from '../../src/config/providers.js'
import { providerEntrySchema } from '../../src/config/schema.js'
import { runConformanceClient } from '../../src/providers/conformance/index.js'

const [configured] = await createProviders([providerEntrySchema.parse(JSON.parse(z.string().parse(process.env['PROVIDER_ENTRY'])))])
if (configured === undefined) throw new Error('no provider was made')
await runConformanceClient(configured.provider)
