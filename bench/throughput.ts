// What one empty job costs: plain BullMQ and Switchyard in turn, one consumer process each, at 1, 10, 100 and 500 jobs at once. Redis is real, and so
// is the consumer's process; providers and git host are in memory. Switchyard's job has a place, a sandbox, a clone, a step, a record, a result and an
// event; BullMQ's has nothing. Believe processor time, counts and bytes: jobs a second are what the machine had to give. `JOBS=1000` makes fewer,
// `CONCURRENCY=100` runs some, `CPU_PROFILES=FOLDER` keeps profiles of the processes.
import { bytesPerJob, throughput } from './in-memory/throughput.js'
import { plot } from './plot.js'
import { reportTable } from './report.js'

const most = Number(process.env['JOBS'] ?? 5_000)
const concurrencies = (process.env['CONCURRENCY'] ?? '1,10,100,500').split(',').map(Number)
const rounded = (figures: object) => Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, Number(value).toPrecision(4)] as const).map(([name, text]) => [name, Number(text)]))

const rows: Record<string, number | string>[] = []
for (const concurrency of concurrencies) {
  for (const what of ['raw', 'switchyard'] as const) {
    // BullMQ's are through in a moment, and it keeps the latest 10,000 to be counted.
    const jobs = Math.min(what === 'raw' ? 2 * most : most, 400 * Math.max(concurrency, 2), 10_000)
    rows.push({ what, concurrency, jobs, ...rounded(await throughput({ what, processes: 1, concurrency, jobs })) })
  }
}
const bytes = Math.min(most, 1_000)
await reportTable('throughput', rows)
await reportTable('bytes-per-job', [{ what: 'raw', ...rounded(await bytesPerJob('raw', bytes)) }, { what: 'switchyard', ...rounded(await bytesPerJob('switchyard', bytes)) }])
await plot('throughput', {
  title: 'Processor time of an empty job, consumer and Redis',
  x: 'jobs at once',
  y: 'ms a job',
  xLogarithmic: true,
  points: rows.flatMap(({ what, concurrency, cpuMs, redisCpuMs }) => [
    { series: `${what}: consumer`, x: Number(concurrency), y: Number(cpuMs) },
    { series: `${what}: Redis`, x: Number(concurrency), y: Number(redisCpuMs) },
  ]),
})
