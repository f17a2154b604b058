// The baseline: a queue worker as sandbox guides have it. Each process has its share of every provider's limit, and a job tries
// one provider after the other. Plain BullMQ; the same in-memory providers and the same runner as Switchyard's consumer.
import { Worker } from 'bullmq'
import { createRunner } from '../../src/runner/index.js'
import { cpuMs, type Change, type ProcessOptions } from './fleet.js'
import { inMemoryGitHost } from './git-host.js'
import { InMemoryProvider } from './provider.js'

const told = JSON.parse(process.env['BENCH'] ?? '') as ProcessOptions
const call = { timeoutMs: 30_000 }
const changes: Change[] = []
const providers = told.providers.map(({ name, sandboxes }) => ({
  provider: new InMemoryProvider(name, { onChange: (provider, by) => changes.push({ provider, by, atMs: Date.now() }) }),
  share: sandboxes,
  used: 0,
}))

async function runAt(provider: InMemoryProvider, name: string, run: string): Promise<void> {
  const { id } = await provider.create({ name, tags: {}, image: undefined, resources: {}, lifetimeMs: 600_000, network: 'open', gitHosts: [] })
  try {
    const runner = createRunner({ provider, sandboxId: id })
    await runner.install(call)
    const base = await inMemoryGitHost.resolve('bench', null, call)
    await runner.clone({ access: await inMemoryGitHost.readAccess('bench', { ephemeral: false }), ...base, branch: 'work', checkpoint: null }, call)
    const from = { stdoutOffset: 0, stderrOffset: 0, waitMs: 20_000, maxBytes: 65_536 }
    let slice = await runner.start({ key: 'step', run, cwd: undefined, env: {} }, call, from)
    while (slice.exitCode === null) slice = await runner.read('step', from, call)
  } finally {
    await provider.kill(id)
  }
}

const worker = new Worker<{ run: string }>(
  'fallback',
  async (job) => {
    for (const each of providers) {
      if (each.used >= each.share) continue
      each.used++
      try {
        await runAt(each.provider, `job-${job.id}`, job.data.run)
        return
      } catch (error) {
        console.error('next provider', error)
      } finally {
        each.used--
      }
    }
    throw new Error('no provider had room')
  },
  { connection: { url: told.redisUrl, maxRetriesPerRequest: null }, concurrency: told.maxJobs },
)
await worker.waitUntilReady()

process.on('message', (question) => {
  if (question === 'changes') process.send?.(changes.splice(0))
  if (question === 'cpu') process.send?.(cpuMs())
  if (question === 'stop') void worker.close().then(() => process.exit(0))
})
process.send?.('started')
