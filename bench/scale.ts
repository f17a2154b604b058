// The same empty jobs with 1, 2 and 4 consumer processes, each with 100 at once: what a job costs must not grow with how many there are. Jobs a second grow
// as long as there are processors for them and for Redis. `JOBS=1000` makes fewer.
import { availableParallelism } from 'node:os'
import { throughput } from './in-memory/throughput.js'
import { plot } from './plot.js'
import { reportTable } from './report.js'

const jobs = Number(process.env['JOBS'] ?? 6_000)
const rows: Record<string, number | string>[] = []
for (const processes of [1, 2, 4]) {
  const figures = await throughput({ what: 'switchyard', processes, concurrency: 100, jobs })
  rows.push({ processes, cores: availableParallelism(), ...Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, Number(Number(value).toPrecision(4))])) })
}
await reportTable('scale', rows)
await plot('scale', {
  title: 'Processor time of an empty job, all consumers and Redis',
  x: 'consumer processes',
  y: 'ms a job',
  points: rows.flatMap(({ processes, cpuMs, redisCpuMs }) => [
    { series: 'consumers', x: Number(processes), y: Number(cpuMs) },
    { series: 'Redis', x: Number(processes), y: Number(redisCpuMs) },
  ]),
})
