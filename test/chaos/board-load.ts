/**
 * The board under load, for real: `npm run board:load -- --jobs 200 --out FOLDER`. Jobs run on consumer processes at the providers' protocol servers while some
 * of those fail; a browser without a window looks at each page, on a large screen, in the dark and on a phone, and what it saw is kept as pictures. Each
 * page must be without findings of axe, without errors, no wider than the screen, live, and light: its bytes, and what a refresh asks of Redis.
 */
import { mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Redis } from 'ioredis'
import type { BrowserContextOptions, Page } from 'playwright-core'
import { openBoard } from '../../src/cli/open-board.js'
import { configSchema } from '../../src/config/schema.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { fleetFragments, fleetParts } from '../../src/monitor/pages/fleet-page.js'
import { AgentQueue } from '../../src/producers/index.js'
import { until } from '../e2e/deployment.js'
import { axeFindings, listenForProblems, overflowPx, startChromium } from '../monitor/chromium.js'
import { Fleet } from './fleet.js'
import { Timeline } from './timeline.js'
import { startWorld } from './world.js'

const { values } = parseArgs({ options: { jobs: { type: 'string', default: '200' }, out: { type: 'string' }, looks: { type: 'string', default: 'desktop,dark,phone' }, pages: { type: 'string', default: 'all' }, help: { type: 'boolean', default: false } } })
if (values.help) {
  process.stdout.write('npm run board:load -- [--jobs 200] [--out FOLDER] [--looks desktop,dark,phone] [--pages fleet,job-running,…]\n')
  process.exit(0)
}
const count = Number(values.jobs)
if (!(count >= 8)) throw new Error('--jobs is a number of at least 8')
const outDir = values.out ?? join(tmpdir(), `switchyard-board-${process.pid}`)
await mkdir(outDir, { recursive: true })

const patienceMs = 900_000
/** What must hold of each look at a fleet with 200 running jobs. */
const most = { htmlBytes: 400_000, commands: 200 }
const began = Date.now()
const say = (text: string) => process.stdout.write(`${((Date.now() - began) / 1000).toFixed(0).padStart(4)} s  ${text}\n`)
const failures: string[] = []
const check = (what: string, holds: boolean) => {
  if (!holds) failures.push(what)
  say(`${holds ? 'ok  ' : 'FAIL'}  ${what}`)
}

const limits = { local: Math.ceil(count * 0.3), e2b: Math.ceil(count * 0.3), modal: Math.ceil(count * 0.2), daytona: Math.ceil(count * 0.2) }
const world = await startWorld(limits)
const timeline = new Timeline(join(outDir, 'timeline.jsonl'))
const prices: Readonly<Record<string, number>> = { e2b: 0.17, modal: 0.31, daytona: 0.13 }
const entries = world.entries.map((entry) => (prices[entry.name] === undefined ? entry : { ...entry, price: { perSandboxHour: prices[entry.name] ?? 0 } }))
const fleet = new Fleet({
  size: 3,
  consumer: { redisUrl: world.redis.url, git: world.gitOptions, providers: entries, settings: { leaseMs: 60_000, stallCheckMs: 10_000, stopGraceMs: 500, readWaitMs: 20_000, reapIntervalMs: 15_000 } },
  keys: world.keys,
  environment: world.environment,
  logDir: outDir,
  timeline,
})
/** How many commands its connections have sent. */
let sent = 0
const queue = new AgentQueue({
  redis: {
    connection: () => {
      const redis = new Redis(world.redis.url, { protocol: 2, maxRetriesPerRequest: null })
      const send = redis.sendCommand.bind(redis)
      redis.sendCommand = (...call) => {
        sent += 1
        return send(...call)
      }
      return redis
    },
  },
})
const { board, close: closeBoard } = await openBoard(
  configSchema.parse({ redis: { url: world.redis.url }, logs: { level: 'error' }, board: { port: 0, writable: true, commitUrl: 'https://git.example/{repository}/commit/{sha}', branchUrl: 'https://git.example/{repository}/tree/{branch}', compareUrl: 'https://git.example/{repository}/compare/{base}...{sha}' } }),
  { SWITCHYARD_BOARD_PASSWORD: 'pass word' },
)
const browser = await startChromium(patienceMs)
const problems: string[] = []
const looks: Readonly<Record<string, BrowserContextOptions>> = {
  desktop: { viewport: { width: 1440, height: 1000 } },
  dark: { viewport: { width: 1440, height: 1000 }, colorScheme: 'dark' },
  phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 },
}

const said = ['Reading src/checkout/cart.ts', 'Running the tests: 128 passed, 2 failed', 'I found the cause: the discount is applied twice when a cart is merged', 'npm warn deprecated inflight@1.0.6: This module is not supported, and leaks memory', 'Editing src/checkout/discount.ts']
const tenants = ['acme', 'globex', 'initech', 'umbrella', 'a-tenant-with-a-name-that-is-rather-long']
/** Says something every half minute, each job at its own pace. */
function longJob(index: number): JobSpecInput {
  const lines = said.map((text) => `echo "${text}"; sleep ${20 + (index % 20)}`).join('; ')
  return {
    repository: world.repositories[index % world.repositories.length] ?? '',
    tenant: tenants[index % tenants.length],
    setup: ['true'],
    steps: [{ name: index % 3 === 0 ? 'agent' : 'fix the failing test', run: `echo "job ${index}" >work.txt; n=0; while [ $n -lt 100 ]; do n=$((n+1)); ${lines}; done` }, 'npm test'],
    ...(index % 10 === 0 ? { checkpoint: { everySeconds: 30 } } : { push: false as const }),
    timeout: '4h',
  }
}

/** Jobs that have ended, as they do. */
async function endSome(): Promise<{ failed: string; succeeded: string }> {
  const [repository = ''] = world.repositories
  const [failed, succeeded] = await queue.enqueueMany([
    { repository, tenant: 'acme', steps: [{ name: 'agent', run: 'echo trying; sleep 2; printf "one\\ntwo\\n" >new.txt' }, { name: 'npm test', run: 'echo "Error: expected 3 to be 4" >&2; echo "    at cart.test.ts:12:5" >&2; exit 1' }] },
    { repository, tenant: 'globex', steps: [{ name: 'agent', run: 'sleep 1; printf "changed\\n" >README.md; mkdir -p src; i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo "line $i" >>src/made.ts; done; rm old/first.txt' }, 'cat src/made.ts'], promote: { to: 'fix/cart' } },
  ])
  for (const job of [failed, succeeded]) await job?.result({ timeoutMs: patienceMs })
  return { failed: failed?.jobId ?? '', succeeded: succeeded?.jobId ?? '' }
}

/** A page of a visitor who is logged in. */
async function visit(options: BrowserContextOptions): Promise<Page> {
  const context = await browser.newContext(options)
  context.setDefaultTimeout(120_000)
  const page = await context.newPage()
  listenForProblems(page, problems)
  await page.goto(board.loginUrl, { waitUntil: 'commit' })
  return page
}

/** Each page in each look: first its pictures, then what axe finds, which takes longer. */
async function lookAt(pages: Readonly<Record<string, string>>): Promise<void> {
  for (const step of ['pictures', 'axe'] as const) {
    for (const [look, options] of Object.entries(looks).filter(([name]) => values.looks.split(',').includes(name))) {
      const page = await visit(options)
      for (const [name, path] of Object.entries(pages).filter(([each]) => values.pages === 'all' || values.pages.split(',').includes(each))) {
        const own = path.startsWith('fleet')
        await page.goto(board.url + path, { waitUntil: 'domcontentloaded' })
        // Bull Board draws its page once its script has asked for what it shows.
        if (own) await page.waitForSelector('main section')
        else await until(`${path} to be drawn`, async () => await page.evaluate<boolean>(`document.querySelector('main')?.innerText.includes(' · ') === true`), 120_000).catch((error: unknown) => failures.push(String(error)))
        if (step === 'axe') {
          const findings = await axeFindings(page)
          if (own) check(`${name}, ${look}: axe finds nothing${findings.length === 0 ? '' : `: ${findings.join('; ')}`}`, findings.length === 0)
          else say(`      ${name}, ${look}: axe finds ${findings.length} kinds of things in Bull Board’s own page`)
          continue
        }
        await page.screenshot({ path: join(outDir, `${name}-${look}.png`) })
        if (!own) continue
        const wider = await overflowPx(page)
        check(`${name}, ${look}: nothing is wider than the screen${wider === 0 ? '' : `: by ${wider} px`}`, wider === 0)
        // More of it than a screen shows; with 200 rows the whole would be too long to look at.
        await page.setViewportSize({ width: options.viewport?.width ?? 0, height: 2_600 })
        await page.screenshot({ path: join(outDir, `${name}-${look}-long.png`) })
        await page.setViewportSize({ width: options.viewport?.width ?? 0, height: options.viewport?.height ?? 0 })
      }
      await page.context().close()
    }
  }
}

/** What one look costs: bytes, commands, and times on this machine. */
async function weigh(): Promise<void> {
  const page = await visit({ viewport: { width: 1440, height: 1000 } })
  const response = await page.goto(`${board.url}fleet`, { waitUntil: 'domcontentloaded' })
  const htmlBytes = (await response?.body())?.length ?? Infinity
  const times: number[] = []
  const commands: number[] = []
  const rendered: number[] = []
  for (let each = 0; each < 7; each++) {
    const before = sent
    const startedMs = performance.now()
    const state = await queue.fleet()
    times.push(performance.now() - startedMs)
    commands.push(sent - before)
    const drawnMs = performance.now()
    fleetFragments(fleetParts(state, { base: '', writable: true }))
    rendered.push(performance.now() - drawnMs)
  }
  const median = (numbers: readonly number[]) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN
  const { running } = await queue.fleet()
  // What goes to a page that is live, over half a minute.
  const bytes = await page.evaluate<number>(`new Promise((done) => { let bytes = 0; const source = new EventSource(document.body.dataset.live); for (const name of ['change', 'trouble']) source.addEventListener(name, ({ data }) => { bytes += data.length }); setTimeout(() => { source.close(); done(bytes) }, 30000) })`)
  say(`      with ${running.length} running jobs: ${Math.round(htmlBytes / 1024)} KiB of HTML, ${(bytes / 30 / 1024).toFixed(1)} KiB/s to a page that is live, ${median(commands)} commands to Redis in ${median(times).toFixed(0)} ms a look, ${median(rendered).toFixed(0)} ms to draw it`)
  check(`the page is of at most ${most.htmlBytes} bytes`, htmlBytes <= most.htmlBytes)
  check(`a look takes at most ${most.commands} commands`, median(commands) <= most.commands)
  await page.context().close()
}

/** A page that nobody loads again shows a job go, and says when Redis is away and back. */
async function stayLive(): Promise<void> {
  const page = await visit({ viewport: { width: 1440, height: 1000 } })
  await page.goto(`${board.url}fleet`, { waitUntil: 'domcontentloaded' })
  const [row] = await page.locator('#running tbody tr').all()
  const id = (await row?.getAttribute('id')) ?? ''
  const jobId = decodeURIComponent(/\/fleet\/jobs\/([^?"]+)/.exec((await row?.innerHTML()) ?? '')?.[1] ?? '')
  await queue.job(jobId).cancel('seen enough')
  const shows = async (what: string, expression: string) => {
    await until(what, async () => await page.evaluate<boolean>(expression), 180_000).then(() => check(what, true), () => check(what, false))
  }
  await shows('a job that is cancelled leaves the page by itself', `document.getElementById(${JSON.stringify(id)}) === null && document.getElementById('live').textContent === 'Live'`)
  world.redis.freeze()
  try {
    await shows('the page says that Redis is away', `document.getElementById('live').textContent.startsWith('Not up to date')`)
    await page.screenshot({ path: join(outDir, 'fleet-redis-away.png') })
  } finally {
    world.redis.thaw()
  }
  await shows('and is live again afterwards', `document.getElementById('live').textContent === 'Live'`)
  await page.context().close()
}

/** Sandboxes of one provider die, and it makes no others; a consumer is killed, one's key is refused; operators drain, and pause a tenant. */
async function breakThings(): Promise<void> {
  const e2b = world.servers.find(({ name }) => name === 'e2b')
  await e2b?.addFaults([{ call: 'create', times: 0, action: 'status', status: 500 }])
  for (const { id } of (await e2b?.state())?.sandboxes.slice(0, 6) ?? []) await e2b?.killSandbox(id)
  fleet.kill(0)
  await fleet.staleKey(0.9)
  const by = { id: 'operator', name: 'anna' }
  await queue.operations.drainProvider('daytona', { by, reason: 'maintenance until noon', forMs: 7_200_000 })
  await queue.operations.pauseTenant('umbrella', { by, reason: 'asked to by its owner' })
  await until('the outage to show', async () => (await queue.fleet()).providers.some(({ breaker }) => breaker === 'open'), 180_000).then(() => check('a provider’s outage shows', true), () => check('a provider’s outage shows', false))
}

try {
  await fleet.start()
  const ended = await endSome()
  say('two jobs have ended')
  const jobs = await queue.enqueueMany(Array.from({ length: count + Math.ceil(count / 5) }, (_, index) => longJob(index)))
  const runs = async () => (await queue.fleet()).running.filter(({ step }) => step !== null).length
  await until('the jobs to run', async () => (await runs()) >= Math.min(190, count * 0.95), patienceMs)
  say(`${await runs()} jobs run`)
  await breakThings()
  say(`${await runs()} jobs run; a provider is out, one is drained, a consumer was killed, another's key is refused`)
  const moved = (await queue.fleet()).running.find(({ attempt }) => attempt > 1)?.jobId ?? jobs[0]?.jobId ?? ''
  const bull = (jobId: string) => `queue/agents/${encodeURIComponent(jobId)}`
  await weigh()
  await lookAt({ fleet: 'fleet', 'job-running': `fleet/jobs/${moved}`, 'job-failed': `fleet/jobs/${ended.failed}`, 'job-succeeded': `fleet/jobs/${ended.succeeded}`, 'job-cancel': `fleet/jobs/${moved}?ask=cancel`, 'bull-queue': 'queue/agents?status=active', 'bull-running': bull(moved), 'bull-failed': bull(ended.failed) })
  await stayLive()
  check(`no page had an error${problems.length === 0 ? '' : `: ${[...new Set(problems)].slice(0, 5).join('; ')}`}`, problems.length === 0)
} catch (error) {
  failures.push(String(error))
  say(String(error))
} finally {
  await browser.close()
  await closeBoard()
  await queue.close()
  await fleet.close()
  await world.close()
  await timeline.close()
}
say(`pictures and logs: ${outDir}`)
for (const failure of [...failures, ...fleet.problems]) process.stdout.write(`FAIL ${failure}\n`)
process.exit(failures.length + fleet.problems.length === 0 ? 0 : 1)
