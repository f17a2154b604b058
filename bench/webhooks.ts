// Webhook deliveries a second, to a receiver in a process of its own that fails one in ten: `EVENTS` jobs that have ended and one deliverer, whose schedule
// is the real one, so that what failed comes again after 5 seconds. Redis and HTTP are real.
import { fork } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import { storedEvent } from '../src/events/completion-event.js'
import { completionEvent } from '../src/events/index.js'
import { startRedis } from '../src/embedded/index.js'
import { hooksFor } from '../src/job/event-kinds.js'
import { newRunRecord } from '../src/job/run-record.js'
import { createRedis, Keys, RunStore } from '../src/store/index.js'
import { startWebhooks } from '../src/webhooks/index.js'
import { report } from './report.js'

const events = Number(process.env['EVENTS'] ?? 5_000)
const concurrency = Number(process.env['CONCURRENCY'] ?? 20)
const secret = `whsec_${Buffer.alloc(32, 1).toString('base64')}`

const receiver = fork(new URL('in-memory/receiver-process.ts', import.meta.url), ['10'], { execArgv: ['--import', 'tsx'] })
let counts = { taken: 0, refused: 0 }
const port = await new Promise<number>((resolve) => {
  receiver.on('message', (message: { port?: number; taken?: number; refused?: number }) => {
    if (message.port !== undefined) resolve(message.port)
    else counts = { taken: message.taken ?? 0, refused: message.refused ?? 0 }
  })
})

const redis = await startRedis()
const client = createRedis({ url: redis.url }, 'commands')
const store = new RunStore(client, new Keys())
const asked = { webhooks: [{ url: `http://127.0.0.1:${port}/`, secretName: 'HOOK' }] }

async function endJob(number: number): Promise<void> {
  const jobId = `job-${number}`
  const fresh = newRunRecord({ jobId, generation: 1, repository: 'bench/jobs', startedAtMs: Date.now(), asked })
  const acquired = await store.acquire(jobId, { holder: 'bench', fresh })
  if (acquired.kind !== 'acquired') throw new Error(`${jobId} has ended before`)
  const result = { jobId, status: 'succeeded', error: null, repository: 'bench/jobs', baseSha: null, branch: null, commit: null, promoted: null, steps: [], attempts: [], diff: null, unsaved: [], unsavedMore: 0, kept: [], usage: { sandboxSeconds: 0 }, metadata: {}, tenant: null } as unknown as Parameters<typeof completionEvent>[0]
  await store.finish(jobId, acquired.fence, fresh, result, storedEvent(completionEvent(result), hooksFor('completed', asked)))
}
for (let start = 0; start < events; start += 100) await Promise.all(Array.from({ length: Math.min(100, events - start) }, (_job, index) => endJob(start + index)))

const began = performance.now()
const webhooks = startWebhooks({ redis: { url: redis.url }, signingSecrets: () => secret, secrets: ['HOOK'], allowNetworks: ['127.0.0.1'], concurrency, log: pino({ level: 'silent' }) })
let [firstMs, allMs, attempts] = [0, 0, 0]
while (allMs === 0) {
  await delay(20)
  const made = counts.taken + counts.refused
  // Those that failed come again no sooner than after 4.5 seconds: until then each attempt is another event's first.
  if (firstMs === 0 && made >= events) [firstMs, attempts] = [performance.now() - began, made]
  if (counts.taken >= events) allMs = performance.now() - began
}
await report('webhooks', {
  'events': events,
  'deliveries a second, as many attempts as events': Math.round((attempts / firstMs) * 1000),
  'attempts in all': counts.taken + counts.refused,
  'seconds until each was delivered': Number((allMs / 1000).toFixed(1)),
})
await webhooks.close()
client.disconnect()
await redis.close()
receiver.disconnect()
