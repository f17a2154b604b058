// Resident memory of an idle consumer process, and of one that supervises 200 jobs, beside a bare Node process.
// The consumer is a process of its own, built (dist), with the local provider; JOBS=n changes the number.
import { spawn, type ChildProcess } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { startDeployment, until } from '../test/e2e/deployment.js'
import { report } from './report.js'

const jobs = Number(process.env['JOBS'] ?? 200)
const rssMiB = async (child: ChildProcess) => Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${child.pid}/status`, 'utf8'))?.[1] ?? 0) / 1024
const round = (value: number) => Number(value.toFixed(1))
const settle = async (child: ChildProcess) => {
  const seen: number[] = []
  await until('memory to settle', async () => seen.push(await rssMiB(child)) > 100, 60_000)
  return seen.slice(-20).toSorted((a, b) => a - b)[10] ?? 0
}

const deployment = await startDeployment({ limits: [jobs] })
const bare = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
try {
  await deployment.seed('bench/memory', { 'README.md': 'x\n' })
  const worker = join(deployment.dir, 'worker.mjs')
  const at = (path: string) => JSON.stringify(new URL(path, import.meta.url).href)
  await writeFile(
    worker,
    `import { Consumer, secretsFromEnvironment } from ${at('../dist/consumers/index.js')}
import { CodeStorageHost } from ${at('../dist/git/index.js')}
import { LocalProvider } from ${at('../dist/providers/local/index.js')}
import { pino } from ${JSON.stringify(import.meta.resolve('pino'))}
const o = JSON.parse(process.env.BENCH)
const consumer = new Consumer({ deployment: 'bench', redis: { url: o.redis }, git: new CodeStorageHost(o.git),
  providers: [{ provider: new LocalProvider(o.local), limit: { sandboxes: o.jobs } }], secrets: secretsFromEnvironment([]),
  log: pino({ level: 'silent' }), settings: { maxJobs: o.jobs } })
await consumer.start()
process.on('SIGTERM', () => consumer.stop().then(() => process.exit(0)))
process.send('started')
`,
  )
  const consumer = spawn(process.execPath, [worker], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: {
      PATH: process.env['PATH'],
      BENCH: JSON.stringify({
        jobs,
        redis: deployment.redis.url,
        git: { org: 'acme', privateKey: deployment.privateKey, storageUrl: deployment.storage.url, apiUrl: deployment.storage.apiUrl },
        local: { name: 'local-a', stateDir: join(deployment.dir, 'sandboxes') },
      }),
    },
  })
  await new Promise((resolve) => consumer.once('message', resolve))
  const idle = await settle(consumer)
  const handles = await deployment.queue.enqueueMany(Array.from({ length: jobs }, () => ({ repository: 'bench/memory', push: false as const, steps: ['echo up; sleep 900'] })))
  await until(
    'all jobs in their step',
    async () => (await Promise.all(handles.map((handle) => handle.status()))).every(({ phase }) => phase === 'steps'),
    400_000,
  )
  const busy = await settle(consumer)
  await report('consumer-memory', {
    bareNodeMiB: round(await rssMiB(bare)),
    idleConsumerMiB: round(idle),
    jobs,
    busyConsumerMiB: round(busy),
    perJobKiB: round(((busy - idle) * 1024) / jobs),
  })
  consumer.kill('SIGTERM')
  await new Promise((resolve) => consumer.once('exit', resolve))
} finally {
  bare.kill()
  await deployment.close()
}
