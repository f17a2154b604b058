// What is lost of a job's work when its sandbox dies, against the checkpoint interval. A step writes the time into a file every
// 100 ms; in the third interval, at a different moment of it in each trial, its sandbox is killed. Lost is the time in that file
// just before, less the time that the step finds there when it goes on at the other provider. Real sandboxes (the local provider),
// git and Redis; the intervals' trials run side by side.
import { setTimeout as delay } from 'node:timers/promises'
import { startDeployment, until } from '../test/e2e/deployment.js'
import { median, report } from './report.js'

const intervals = [1, 2, 5]
const trials = 5
const call = { timeoutMs: 30_000 }
const step = 'echo "from $(cat clock 2>/dev/null || echo 0) at $(date +%s%3N)."; while :; do date +%s%3N >clock.new; mv clock.new clock; sleep 0.1; done'

const deployment = await startDeployment({ limits: [3, 3] })

async function sandboxOf(jobId: string) {
  for (const provider of deployment.providers) {
    for await (const { id } of provider.list({ 'switchyard-job': jobId }, call)) return { provider, id }
  }
  throw new Error(`job ${jobId} has no sandbox`)
}

/** @param atShare how far into the interval the sandbox is killed, from 0 to 1. */
async function trial(everySeconds: number, atShare: number): Promise<{ lostMs: number; awayMs: number }> {
  const job = await deployment.queue.enqueue({ repository: 'bench/work', steps: [step], checkpoint: { everySeconds } })
  const found: { readonly clockMs: number; readonly atMs: number }[] = []
  const reading = (async () => {
    let text = ''
    for await (const line of job.logs({ follow: true })) {
      if (line.stream !== 'stdout') continue
      text += line.text
      found.splice(0, found.length, ...[...text.matchAll(/from (\d+) at (\d+)\./g)].map((match) => ({ clockMs: Number(match[1]), atMs: Number(match[2]) })))
    }
  })()
  await until('a step counts', () => found.length === 1)
  await delay(everySeconds * (2 + atShare) * 1000)
  const { provider, id } = await sandboxOf(job.jobId)
  const worked = Number((await provider.exec(id, { script: 'cat "$HOME/repository/clock"' }, call)).stdout)
  const killedAt = performance.now()
  await provider.kill(id, call)
  await until('the step goes on elsewhere', () => found.length === 2, 60_000)
  const awayMs = performance.now() - killedAt
  await job.cancel('measured')
  await job.result()
  await reading
  // Without a checkpoint all is lost, from the step's start on.
  const kept = found[1]?.clockMs === 0 ? (found[0]?.atMs ?? 0) : (found[1]?.clockMs ?? 0)
  return { lostMs: worked - kept, awayMs }
}

try {
  await deployment.seed('bench/work', { 'README.md': 'x\n' })
  await deployment.startConsumer()
  const seconds = (ms: number) => Number((ms / 1000).toFixed(2))
  const figures: Record<string, number> = { trials }
  const away: number[] = []
  await Promise.all(
    intervals.map(async (everySeconds) => {
      const lost: number[] = []
      for (let index = 0; index < trials; index++) {
        const outcome = await trial(everySeconds, (index + 0.5) / trials)
        lost.push(outcome.lostMs)
        away.push(outcome.awayMs)
      }
      figures[`every${everySeconds}sLostMedianSeconds`] = seconds(median(lost))
      figures[`every${everySeconds}sLostMostSeconds`] = seconds(Math.max(...lost))
      figures[`every${everySeconds}sMostOverInterval`] = Number((Math.max(...lost) / 1000 / everySeconds).toFixed(2))
    }),
  )
  await report('work-lost', { ...Object.fromEntries(Object.entries(figures).toSorted()), goesOnElsewhereAfterMedianSeconds: seconds(median(away)) })
} finally {
  await deployment.close()
}
