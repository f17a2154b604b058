import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openBoard } from '../../src/cli/open-board.js'
import { configSchema } from '../../src/config/schema.js'
import { until } from '../e2e/deployment.js'
import { axeFindings, chromiumPath, listenForProblems, needsChromium, overflowPx, startChromium } from './chromium.js'
import { longJob, startMonitored, type Monitored } from './monitored.js'

/** The pages as people see them, in a real browser without a window. */
const patienceMs = 90_000

let at: Monitored
let browser: Browser
let board: Awaited<ReturnType<typeof openBoard>>
const jobs: string[] = []

beforeAll(async () => {
  if (chromiumPath === undefined) return
  at = await startMonitored()
  board = await openBoard(configSchema.parse({ redis: { url: at.redis.url }, board: { port: 0, writable: true } }), { SWITCHYARD_BOARD_PASSWORD: 'pass word' })
  // Last: a browser that starts takes the whole machine for a moment.
  browser = await startChromium(patienceMs)
  const handles = await at.queue.enqueueMany([longJob(), longJob({ repository: `acme/${'long-name-'.repeat(12)}`, tenant: 'globex' }), longJob({ steps: ['sleep 0.01'] }), longJob({ secrets: ['NOT_THERE'] })])
  jobs.push(...handles.map(({ jobId }) => jobId))
  await handles[2]!.result({ timeoutMs: patienceMs })
  await until('the others run', async () => (await at.queue.fleet()).running.filter(({ lastLine }) => lastLine !== '').length === 2, patienceMs)
}, 2 * patienceMs)
afterAll(async () => {
  if (chromiumPath === undefined) return
  await browser.close()
  await board.close()
  await at.close()
})

/** A page of a visitor who is logged in. */
async function visit(path: string, options: BrowserContextOptions = {}): Promise<Page> {
  const context = await browser.newContext({ viewport: { width: 1300, height: 900 }, ...options })
  context.setDefaultTimeout(patienceMs)
  const page = await context.newPage()
  listenForProblems(page, problems)
  await page.goto(board.board.loginUrl, { waitUntil: 'commit' })
  await page.goto(board.board.url + path, { waitUntil: 'domcontentloaded' })
  return page
}
const problems: string[] = []

const options = { timeout: 6 * patienceMs }

it.skipIf(chromiumPath === undefined)(`has no findings of axe on any page, light, dark and on a phone, and nothing wider than the screen (${needsChromium})`, options, async () => {
  const looks: Record<string, BrowserContextOptions> = { light: {}, dark: { colorScheme: 'dark' }, phone: { viewport: { width: 390, height: 800 }, isMobile: true, hasTouch: true } }
  for (const [look, with_] of Object.entries(looks)) {
    const page = await visit('fleet', with_)
    // The colours of the dark and the shape of the phone are those of two pages.
    for (const path of ['fleet', `fleet/jobs/${jobs[2]!}`, ...(look === 'light' ? [`fleet/jobs/${jobs[0]!}`, 'fleet/jobs/none'] : [])]) {
      await page.goto(board.board.url + path, { waitUntil: 'domcontentloaded' })
      expect([look, path, await axeFindings(page)]).toEqual([look, path, []])
      expect([look, path, await overflowPx(page)]).toEqual([look, path, 0])
    }
    await page.context().close()
  }
  const stranger = await browser.newPage()
  await stranger.goto(`${board.board.url}login`, { waitUntil: 'domcontentloaded', timeout: patienceMs })
  expect(await axeFindings(stranger)).toEqual([])
  await stranger.close()
  // That a job is not there is an error of the browser's console, and the only one.
  expect(problems.filter((problem) => !problem.includes('404'))).toEqual([])
})

it.skipIf(chromiumPath === undefined)(`logs in by keyboard, walks to a job, and cancels and runs it again by clicks while the page follows (${needsChromium})`, options, async () => {
  const context = await browser.newContext({ reducedMotion: 'reduce' })
  context.setDefaultTimeout(patienceMs)
  const page = await context.newPage()
  await page.goto(`${board.board.url}fleet`, { waitUntil: 'domcontentloaded' })
  expect(new URL(page.url()).pathname).toBe('/login')
  // The first field has the focus by itself.
  await page.waitForSelector('input[name=username]:focus')
  await page.keyboard.type('admin')
  await page.keyboard.press('Tab')
  await page.keyboard.type('pass word')
  await page.keyboard.press('Enter')
  await page.waitForURL((url) => url.pathname === '/', { waitUntil: 'commit' })
  await page.goto(`${board.board.url}fleet`, { waitUntil: 'domcontentloaded' })
  await page.keyboard.press('Tab')
  expect(await page.evaluate('document.activeElement.textContent')).toBe('Skip to the content')
  const focused: string[] = []
  for (let tabs = 0; tabs < 40 && !focused.some((each) => each.startsWith('link-')); tabs++) {
    await page.keyboard.press('Tab')
    focused.push(await page.evaluate<string>('document.activeElement.id || document.activeElement.textContent.trim()'))
  }
  expect(focused.slice(0, 2)).toEqual(['Fleet', 'Queues'])
  // What is live keeps the focus where it is.
  const id = focused.at(-1)!
  const before = await page.locator('.running .last').first().textContent()
  await page.evaluate(`document.getElementById(${JSON.stringify(id)}).closest('tr').dataset.old = '1'`)
  const other = await at.queue.enqueue(longJob())
  await until('the row to be another', async () => await page.evaluate<boolean>(`document.getElementById('live').textContent === 'Live' && !document.querySelector('[data-old]')`), patienceMs)
  expect(before).toContain('x')
  expect(await page.evaluate('document.activeElement.id')).toBe(id)
  await page.keyboard.press('Enter')
  await page.waitForURL(/\/fleet\/jobs\//, { waitUntil: 'domcontentloaded' })

  await page.goto(`${board.board.url}fleet/jobs/${other.jobId}`, { waitUntil: 'domcontentloaded' })
  await page.click('#cancel-summary')
  await page.fill('#cancel-reason', 'not needed')
  await page.click('#cancel-button')
  await page.waitForURL(/said=/, { waitUntil: 'domcontentloaded' })
  expect((await other.result({ timeoutMs: patienceMs })).error?.message).toContain('not needed')
  await until('the page to say so', async () => await page.evaluate<boolean>(`document.getElementById('head').textContent.includes('cancelled')`), patienceMs)
  await page.goto(`${board.board.url}fleet/jobs/${other.jobId}`, { waitUntil: 'domcontentloaded' })
  await page.click('#retry-start')
  await page.waitForURL(/said=retried/, { waitUntil: 'domcontentloaded' })
  await until('it runs again', async () => (await other.status()).result === null)
  await other.cancel('done')
  await context.close()
})

it.skipIf(chromiumPath === undefined)(`drains and pauses by keyboard, and not by Enter in the field for the reason (${needsChromium})`, options, async () => {
  const page = await visit('fleet')
  const paused = async () => (await at.queue.operations.queue()).pause
  await page.focus('#operate-reason')
  await page.keyboard.type('too much at once')
  await page.keyboard.press('Enter')
  await page.keyboard.press('Tab')
  expect(await page.evaluate('document.activeElement.textContent')).toBe('Pause the queue')
  expect([new URL(page.url()).search, await paused()]).toEqual(['', null])
  await page.keyboard.press('Enter')
  await page.waitForURL(/said=pauseQueue/, { waitUntil: 'domcontentloaded' })
  expect(await paused()).toMatchObject({ by: 'admin', reason: 'too much at once' })
  expect(await page.locator('p[role=status]').textContent()).toContain('The queue is paused')
  // Another operator resumes it: the button follows.
  await at.queue.operations.resumeQueue({ by: { id: 'operator', name: 'anna' } })
  await page.waitForSelector('#queue button:text("Pause the queue")')
  await page.click('button[aria-label="Drain modal"]')
  await page.waitForURL(/said=drainProvider/, { waitUntil: 'domcontentloaded' })
  expect((await at.queue.providers()).find(({ provider }) => provider === 'modal')?.drain).toMatchObject({ by: 'admin', reason: null })
  await page.click('button[aria-label="Resume modal"]')
  await page.waitForURL(/said=resumeProvider/, { waitUntil: 'domcontentloaded' })
  expect((await at.queue.providers()).find(({ provider }) => provider === 'modal')?.drain).toBeNull()
  await page.context().close()
})

it.skipIf(chromiumPath === undefined)(`says and does the same without scripts (${needsChromium})`, options, async () => {
  const page = await visit('fleet', { javaScriptEnabled: false })
  expect(await page.locator('#running tbody tr').count()).toBeGreaterThanOrEqual(2)
  expect(await page.locator('noscript a').textContent()).toBe('Load again')
  await page.click('button[aria-label="Pause the tenant acme"]')
  await page.waitForURL(/said=pauseTenant/, { waitUntil: 'domcontentloaded' })
  await page.click('button[aria-label="Resume the tenant acme"]')
  await page.waitForURL(/said=resumeTenant$/, { waitUntil: 'domcontentloaded' })
  expect((await at.queue.operations.auditLog({ limit: 2 })).map(({ action }) => action)).toEqual(['resumeTenant', 'pauseTenant'])
  // To cancel a job takes two clicks.
  await page.click('a[href$="?ask=cancel"]')
  await page.waitForSelector('#cancel[open] #cancel-button')
  await page.goto(`${board.board.url}fleet/jobs/${jobs[1]!}`, { waitUntil: 'domcontentloaded' })
  await page.click('#cancel-summary')
  await page.click('#cancel-button')
  await page.waitForURL(/said=/, { waitUntil: 'domcontentloaded' })
  expect((await at.queue.job(jobs[1]!).result({ timeoutMs: patienceMs })).status).toBe('cancelled')
  await page.context().close()
})
