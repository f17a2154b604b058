/**
 * Brings each alert of deploy/prometheus/alerts.yml about by a real fault, in a real Prometheus that scrapes a deployment on this machine, and then asks
 * it every query of the dashboards: `npm run observability`. Windows and thresholds of the rules are shortened to seconds; the queries are the same.
 * With `-- --alert NAME...` only those.
 */
import { readFileSync } from 'node:fs'
import { Command, InvalidArgumentError, Option } from 'commander'
import { parse } from 'yaml'
import { until } from '../e2e/deployment.js'
import { unansweredQueries } from './ask-dashboards.js'
import { faults, type Fault, type Undo } from './faults.js'
import { hasPrometheus } from './prometheus.js'
import { hurried, startTrial, type Trial } from './trial.js'

const rulesText = readFileSync('deploy/prometheus/alerts.yml', 'utf8')
const all = (parse(rulesText) as { groups: { rules: { alert: string }[] }[] }).groups.flatMap(({ rules }) => rules.map(({ alert }) => alert))
const number = (text: string): number => {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('give a whole number')
  return Number(text)
}
const given = new Command('observability')
  .description('Breaks a deployment until each alert has fired in a real Prometheus, and asks that every query of the dashboards.')
  .addOption(new Option('--alert <names...>', 'only these, and no dashboards').choices(all))
  .option('--patience <seconds>', 'for one fault to fire its alerts', number, 90)
  .option('--minutes <number>', 'for all of it; what is left then has failed', number, 15)
  .parse()
  .opts<{ alert?: string[]; patience: number; minutes: number }>()

if (!hasPrometheus) throw new Error('there is no /usr/bin/prometheus; install Debian’s package "prometheus"')
const began = performance.now()
const leftMs = () => given.minutes * 60_000 - (performance.now() - began)
const say = (text: string) => process.stdout.write(`${((performance.now() - began) / 1000).toFixed(0).padStart(4)} s  ${text}\n`)
const wanted = (alert: string) => given.alert?.includes(alert) ?? true
const failures: string[] = []
const fired = new Set<string>()

/** The alerts fire for the fault: none of them did when it began. */
async function fire(trial: Trial, { alerts, what, cause }: Fault): Promise<void> {
  const awaited = alerts.filter(wanted)
  if (awaited.length === 0) return
  const patienceMs = () => Math.max(0, Math.min(given.patience * 1000, leftMs()))
  let undo: Undo | undefined
  try {
    await until('what fired before to be over', async () => !(await trial.prometheus.firing()).some((name) => awaited.includes(name)), patienceMs())
    undo = await cause(trial)
    const missing = new Set(awaited)
    await until(`${awaited.join(', ')} to fire`, async () => {
      for (const name of await trial.prometheus.firing()) missing.delete(name)
      return missing.size === 0
    }, patienceMs()).catch((error: unknown) => {
      throw new Error(`${[...missing].join(', ')}: ${String(error)}`)
    })
    for (const name of awaited) fired.add(name)
    say(`${awaited.join(', ')} fired: ${what}`)
  } catch (error) {
    failures.push(String(error))
    say(`NOT FIRED (${what}): ${String(error)}`)
  }
  try {
    await undo?.()
  } catch (error) {
    failures.push(`undoing "${what}": ${String(error)}`)
    say(`not undone (${what}): ${String(error)}`)
  }
}

/** A hand-over, a promotion and checkpoints, for the dashboards. */
async function handOver(trial: Trial): Promise<void> {
  const { queue } = trial.deployment
  const steps = ['n=0; while [ $n -lt 60 ]; do sleep 0.1; n=$((n+1)); echo $n > x.txt; done', 'true']
  const long = await queue.enqueue({ repository: 'acme/web', setup: ['true'], steps, promote: { to: 'done', strategy: 'merge' }, checkpoint: { everySeconds: 5 } })
  await until('its step', async () => (await long.status()).step !== null, trial.patienceMs)
  await trial.replaceConsumer()
  const { status, error } = await long.result({ timeoutMs: trial.patienceMs })
  if (status !== 'succeeded') failures.push(`the job that was handed over ${status}: ${error?.message ?? ''}`)
  say('a job was handed over')
}

/** Every query has an answer somewhere in what was scraped. */
async function askDashboards(trial: Trial): Promise<void> {
  const { asked, unanswered } = await unansweredQueries(trial.prometheus, 1_800)
  say(unanswered.length === 0 ? `all ${asked} queries of the dashboards are answered` : `no answer to: ${unanswered.join('; ')}`)
  for (const each of unanswered) failures.push(`no answer: ${each}`)
}

const trial = await startTrial(hurried(rulesText), given.patience * 1000)
say('a deployment and its Prometheus are there')
try {
  for (const fault of faults) {
    await fire(trial, fault)
    if (given.alert !== undefined) continue
    // While the providers still work, and before Prometheus loses sight of anything.
    if (fault.alerts.includes('SwitchyardCheckpointsFail')) await handOver(trial).catch((error: unknown) => failures.push(String(error)))
    if (fault.alerts.includes('SwitchyardRedisSlow')) await askDashboards(trial)
  }
} finally {
  const unseen = all.filter((name) => wanted(name) && !fired.has(name))
  say(`${fired.size} of ${all.filter(wanted).length} alerts fired${unseen.length === 0 ? '' : `; not: ${unseen.join(', ')}`}`)
  for (const failure of failures) say(`FAILED ${failure}`)
  process.exitCode = failures.length === 0 && unseen.length === 0 ? 0 : 1
  // What hangs on purpose must not keep the process.
  setTimeout(() => process.exit(), 30_000).unref()
  await trial.close()
  process.exit()
}
