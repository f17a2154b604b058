import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { subscribe } from '../../src/events/index.js'
import { unansweredQueries } from '../observability/ask-dashboards.js'
import { startPrometheus } from '../observability/prometheus.js'
import type { Violation } from './violation.js'

/** A run that a real Prometheus scrapes, with a reader of events and a webhook, for all that the dashboards show. */
export interface Watch {
  readonly webhookUrl: string
  readonly onMonitor: (url: string) => void
  /** What the dashboards ask in vain. */
  judge(): Promise<Violation[]>
  close(): Promise<void>
}

/** How many deliveries the webhook's receiver refuses: one in so many. */
const refusesOneIn = 5

export async function startWatch(redisUrl: string): Promise<Watch> {
  const began = Date.now()
  let deliveries = 0
  const receiver = createServer((request, response) => {
    request.resume().on('end', () => response.writeHead(++deliveries % refusesOneIn === 0 ? 500 : 204).end())
  }).listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  // Redis goes away and comes back.
  const reader = subscribe({ url: redisUrl }, 'chaos', () => undefined, { from: 'start', onError: () => undefined })
  const prometheus = await startPrometheus([])
  return {
    webhookUrl: `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`,
    onMonitor: (url) => void prometheus.watch(url),
    async judge() {
      const { unanswered } = await unansweredQueries(prometheus, Math.ceil((Date.now() - began) / 1000))
      return unanswered.map((name) => ({ jobId: null, what: `a dashboard’s query has no answer: ${name}` }))
    },
    async close() {
      await reader.close()
      await prometheus.close()
      receiver.closeAllConnections()
      receiver.close()
    },
  }
}
