// Plain BullMQ whose jobs do nothing, in a process of its own: what a queue costs that does no more than that.
import { Worker } from 'bullmq'
import { cpuMs, type ProcessOptions } from './fleet.js'

const told = JSON.parse(process.env['BENCH'] ?? '') as ProcessOptions
const worker = new Worker('raw', async () => undefined, { connection: { url: told.redisUrl, maxRetriesPerRequest: null }, concurrency: told.maxJobs })
await worker.waitUntilReady()

process.on('message', (question) => {
  if (question === 'cpu') process.send?.(cpuMs())
  if (question === 'stop') void worker.close().then(() => process.exit(0))
})
process.send?.('started')
