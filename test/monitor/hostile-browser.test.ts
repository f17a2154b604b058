import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import { startBoard, type Board } from '../../src/monitor/board.js'
import { AgentQueue } from '../../src/producers/index.js'
import { createRedis } from '../../src/store/index.js'
import { altered } from '../e2e/deployment.js'
import { chromiumPath, needsChromium, startChromium } from './chromium.js'
import { fixed, fleet, status, view, withTexts } from './hostile-state.js'

/**
 * No script of a job's runs in a real browser, whichever field it stands in, on our pages. Their policy would stop most of them;
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
let browser: Browser
let connection: ReturnType<typeof createRedis>
/** What stands in every field now. */
let payload = ''

beforeAll(async () => {
  if (chromiumPath === undefined) return
  redis = await startRedis()
  queue = new AgentQueue({ redis: { url: redis.url } })
  connection = createRedis({ url: redis.url }, 'producer')
  const hostile = altered(queue, {
    fleet: () => Promise.resolve(withTexts(fleet, payload, fixed)),
    view: (jobId) => Promise.resolve(jobId === 'ended' ? withTexts(view, payload, fixed) : { ...withTexts(view, payload, fixed), status: { ...withTexts(status, payload, fixed), jobId, state: 'running', result: null } }),
  })
  board = await startBoard({ redis: connection, host: '127.0.0.1', port: 0, credentials: 'none', queues: [{ name: queue.name, prefix: queue.prefix, description: 'queue', monitored: hostile }], fleetEveryMs: 50, writable: true })
  browser = await startChromium(patienceMs)
}, 2 * patienceMs)
afterAll(async () => {
  if (chromiumPath === undefined) return
  await browser.close()
  await board.close()
  await queue.close()
  connection.disconnect()
  await redis.close()
})

interface Seen {
  readonly page: Page
  readonly dialogs: string[]
  readonly elsewhere: string[]
}

async function open(): Promise<Seen> {
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
  const origin = new URL(board.url).origin
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
  const seen = await open()
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
