import { Queue } from 'bullmq'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import { startBoard, type Board, type BoardOptions } from '../../src/monitor/board.js'
import { AgentQueue } from '../../src/producers/index.js'
import { createRedis } from '../../src/store/index.js'
import { altered, until } from '../e2e/deployment.js'
import { chromiumPath, needsChromium, startChromium } from './chromium.js'
import { fixed, fleet, status, view, withTexts } from './hostile-state.js'

/**
 * No script of a job's runs in a real browser, whichever field it stands in, on our pages and on Bull Board's. Their policy would stop most of them;
 * it is switched off here, so that what is escaped has to hold by itself.
 */
const patienceMs = 90_000
// Short ones: a name is cut.
const payloads = [
  '<img src=x onerror="window.pwned=1">',
  '\'"--></a></script><svg onload=window.pwned=1><a href=javascript:window.pwned=1 autofocus onfocus=window.pwned=1>',
  '<script>window.pwned=1</script>{{constructor.constructor("window.pwned=1")()}}',
  'javascript:window.pwned=1 [x](javascript:window.pwned=1) <iframe srcdoc="<script>top.pwned=1</script>">',
]

let redis: EmbeddedRedis
let queue: AgentQueue
let board: Board
/** Shows the same and changes nothing, so that whatever can be clicked on may be. */
let reader: Board
let browser: Browser
let bull: Queue
let connection: ReturnType<typeof createRedis>
/** What stands in every field now. */
let payload = ''

beforeAll(async () => {
  if (chromiumPath === undefined) return
  redis = await startRedis()
  queue = new AgentQueue({ redis: { url: redis.url } })
  connection = createRedis({ url: redis.url }, 'commands')
  bull = new Queue(queue.name, { prefix: queue.prefix, connection: { url: redis.url } })
  await bull.waitUntilReady()
  const hostile = altered(queue, {
    fleet: () => Promise.resolve(withTexts(fleet, payload, fixed)),
    view: (jobId) => Promise.resolve(jobId === 'ended' ? withTexts(view, payload, fixed) : { ...withTexts(view, payload, fixed), status: { ...withTexts(status, payload, fixed), jobId, state: 'running', result: null } }),
    statuses: (jobIds) => Promise.resolve(jobIds.map((_id, index) => withTexts(status, payloads[index % payloads.length] ?? '', fixed))),
    schedules: altered(queue.schedules, {
      list: () => Promise.resolve([{ id: payload, cron: payload, timezone: payload, everyMs: null, missed: payload, overlap: payload, paused: false, nextRunAt: null, last: null, skipped: null, job: { repository: payload } }] as never),
    }),
  })
  const options: BoardOptions = { redis: connection, host: '127.0.0.1', port: 0, credentials: 'none', queues: [{ name: queue.name, prefix: queue.prefix, description: 'queue', monitored: hostile }], webhooks: { prefix: queue.prefix }, fleetEveryMs: 50 }
  board = await startBoard({ ...options, writable: true })
  reader = await startBoard(options)
  browser = await startChromium(patienceMs)
}, 2 * patienceMs)
afterAll(async () => {
  if (chromiumPath === undefined) return
  await browser.close()
  await Promise.all([board.close(), reader.close()])
  await Promise.all([bull.close(), queue.close()])
  connection.disconnect()
  await redis.close()
})

/** Jobs that anybody put into the queue by BullMQ's own means, one for each payload, which stands in whatever Bull Board shows of one; the last has such an id too. */
async function enqueueByHand(): Promise<string[]> {
  const jobs = [...payloads.map((text, index) => [`job-${index}`, text] as const), [payloads[0], payloads[0]] as const]
  for (const [jobId = '', text = ''] of jobs) {
    const job = await bull.add(text, { spec: { repository: text, tenant: text, ref: text, steps: [{ name: text, run: text, env: { [text]: text } }], metadata: { [text]: text }, push: { branch: text } }, [text]: [text] }, { jobId, delay: 3_600_000 })
    await job.log(text)
    await connection.hset(`${queue.prefix}:${queue.name}:${jobId}`, { failedReason: text, stacktrace: JSON.stringify([text]), returnvalue: JSON.stringify({ status: text, [text]: text }), progress: JSON.stringify({ waiting: text, [text]: text }), finishedOn: Date.now(), processedOn: Date.now() })
    await connection.multi().zrem(`${queue.prefix}:${queue.name}:delayed`, jobId).zadd(`${queue.prefix}:${queue.name}:failed`, Date.now(), jobId).exec()
  }
  return jobs.map(([jobId = '']) => jobId)
}

interface Seen {
  readonly page: Page
  readonly dialogs: string[]
  readonly elsewhere: string[]
}

async function open(at: Board): Promise<Seen> {
  const context = await browser.newContext({ bypassCSP: true })
  context.setDefaultTimeout(patienceMs)
  const page = await context.newPage()
  const dialogs: string[] = []
  const elsewhere: string[] = []
  page.on('pageerror', (error) => dialogs.push(`error: ${error.message}`))
  page.on('dialog', (dialog) => {
    dialogs.push(dialog.message())
    void dialog.dismiss()
  })
  const origin = new URL(at.url).origin
  page.on('request', (request) => {
    if (!request.url().startsWith(origin) && !request.url().startsWith('data:')) elsewhere.push(request.url())
  })
  return { page, dialogs, elsewhere }
}

/** What a payload would have left on the page. */
const traces = `[window.pwned, document.querySelectorAll('[onerror],[onload],[onfocus],iframe,a[href^="javascript:" i],img[src="x"]').length + [...document.scripts].filter(({ textContent }) => textContent.includes('pwned')).length]`

async function untouched({ page, dialogs, elsewhere }: Seen, what: string): Promise<void> {
  expect([what, payload, ...(await page.evaluate<unknown[]>(traces)), dialogs, elsewhere]).toEqual([what, payload, undefined, 0, [], []])
}

it.skipIf(chromiumPath === undefined)(`runs nothing of what a job has named on the fleet’s page, a job’s page, and where they change by themselves (${needsChromium})`, { timeout: 6 * patienceMs }, async () => {
  const seen = await open(board)
  const { page } = seen
  for (payload of payloads) {
    for (const path of ['fleet/jobs/ended', 'fleet/jobs/running?ask=cancel', `fleet/find?job=${encodeURIComponent(payload)}`, `fleet?said=${encodeURIComponent(payload)}`]) {
      await page.goto(board.url + path, { waitUntil: 'load' })
      await untouched(seen, path)
    }
    // It is there, as text: else nothing was tried.
    expect(await page.evaluate<string>('document.body.innerText')).toContain(payload.slice(0, 18))
    // And once more by the stream, which puts it into the page by the script.
    await page.evaluate(`new Promise((done) => { const source = new EventSource(document.body.dataset.live.replace(/since=\\d+/, 'since=0')); source.addEventListener('change', ({ data }) => { for (const [id, html] of Object.entries(JSON.parse(data))) { const old = document.getElementById(id); if (old) old.outerHTML = html } source.close(); setTimeout(done, 50) }) })`)
    await untouched(seen, 'live')
  }
  await page.context().close()
})

it.skipIf(chromiumPath === undefined)(`runs nothing of it on Bull Board’s pages (${needsChromium})`, { timeout: 6 * patienceMs }, async () => {
  const seen = await open(reader)
  const { page } = seen
  const ids = await enqueueByHand()
  /** Loads a page, and waits until its own script has drawn this. */
  const draw = async (path: string, text: string) => {
    await page.goto(reader.url + path, { waitUntil: 'domcontentloaded' })
    await until(`${path} to show ${text}`, async () => (await page.evaluate<string>('document.body.innerText')).includes(text), patienceMs)
    await untouched(seen, path)
  }
  await draw('queue/agents?status=failed', payloads[0]?.slice(0, 18) ?? '')
  for (const [index, id] of ids.entries()) {
    payload = payloads[index % payloads.length] ?? ''
    await draw(`queue/agents/${encodeURIComponent(id)}`, payload.slice(0, 18))
    for (const tab of await page.locator('[role=tab]').all()) {
      await tab.click()
      await untouched(seen, id)
    }
  }
  await draw('queue/~schedules-agents?status=delayed', payload.slice(0, 18))
  await page.context().close()
})
