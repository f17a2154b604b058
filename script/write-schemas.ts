// Writes the JSON Schemas of what crosses Switchyard's border, and the OpenAPI document of its HTTP API, to schema/*.json. A test holds the files against this.
import { mkdir, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { createApi } from '../src/http/index.js'
import { completionEventSchema, jobEventSchema } from '../src/events/index.js'
import { jobResultSchema } from '../src/job/result.js'
import { jobSpecSchema } from '../src/job/spec.js'
import { AgentQueue } from '../src/producers/index.js'

/** Each file's name and content. */
export async function schemaFiles(): Promise<Map<string, string>> {
  const files: [string, z.ZodType, 'input' | 'output', string][] = [
    ['job.json', jobSpecSchema, 'input', 'A job as users write it'],
    ['result.json', jobResultSchema, 'output', 'How a job ended'],
    ['job-event.json', jobEventSchema, 'output', 'An event of a job’s life, its end included: CloudEvents 1.0 in JSON'],
    ['event.json', completionEventSchema, 'output', 'A completion event: CloudEvents 1.0 in JSON'],
  ]
  return new Map([
    ...files.map(([name, schema, io, title]): [string, string] => {
      const { $schema, ...rest } = z.toJSONSchema(schema, { io, target: 'draft-2020-12' })
      return [name, `${JSON.stringify({ $schema, $id: `urn:switchyard:schema:${name.replace(/\.json$/, '')}`, title, ...rest }, null, 2)}\n`]
    }),
    ['openapi.json', await openApiDocument()],
  ])
}

async function openApiDocument(): Promise<string> {
  // Nothing is asked of Redis.
  const queue = new AgentQueue({ redis: { url: 'redis://127.0.0.1' } })
  const response = await createApi({ queue, authenticate: () => null }).fetch(new Request('http://localhost/openapi.json'))
  const document: unknown = await response.json()
  await queue.close()
  return `${JSON.stringify(document, null, 2)}\n`
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = new URL('../schema/', import.meta.url)
  await mkdir(folder, { recursive: true })
  for (const [name, content] of await schemaFiles()) await writeFile(new URL(name, folder), content)
}
