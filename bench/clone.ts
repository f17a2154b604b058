// Bytes on the wire and seconds of the runner's clone beside `git clone --depth 1 --single-branch`, same repository, same server.
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createRunner } from '../src/runner/index.js'
import { git, startDeployment } from '../test/e2e/deployment.js'
import { median, report } from './report.js'

const rounds = 5
const call = { timeoutMs: 60_000 }
const deployment = await startDeployment()
try {
  const files = Object.fromEntries(Array.from({ length: 2_000 }, (_, index) => [`src/${index % 40}/file-${index}.ts`, `export const value${index} = ${'x'.repeat(index % 700)}\n`.repeat(3)]))
  const sha = await deployment.seed('bench/clone', files)
  const [provider] = deployment.providers
  if (provider === undefined) throw new Error('no provider')
  const info = await provider.create({ name: 'bench', tags: {}, image: undefined, resources: {}, lifetimeMs: 600_000, network: 'open', gitHosts: deployment.host.hosts }, call)
  const runner = createRunner({ provider, sandboxId: info.id })
  await runner.install(call)
  const access = await deployment.host.readAccess('bench/clone', { ephemeral: false })
  const sent = () => deployment.storage.wireBytes('bench/clone')
  const total = () => Object.values(sent()).reduce((sum, bytes) => sum + bytes, 0)
  const ours = { bytes: [] as number[], ms: [] as number[] }
  const plain = { bytes: [] as number[], ms: [] as number[] }
  const url = new URL(access.url)
  url.username = access.username
  url.password = access.token
  for (let round = 0; round < rounds; round++) {
    for (const [into, clone] of [
      [ours, () => runner.clone({ access, ref: 'refs/heads/main', sha, branch: 'work', checkpoint: null }, call)],
      [plain, () => git(deployment.dir, 'clone', '-q', '--depth', '1', '--single-branch', url.href, join(deployment.dir, `plain-${round}`))],
    ] as const) {
      const before = total()
      const start = performance.now()
      await clone()
      into.ms.push(performance.now() - start)
      into.bytes.push(total() - before)
    }
    await rm(join(deployment.dir, `plain-${round}`), { recursive: true, force: true })
  }
  await report('clone', {
    runnerBytes: median(ours.bytes),
    gitCloneBytes: median(plain.bytes),
    bytesRatio: Number((median(ours.bytes) / median(plain.bytes)).toFixed(4)),
    runnerMs: Math.round(median(ours.ms)),
    gitCloneMs: Math.round(median(plain.ms)),
    timeRatio: Number((median(ours.ms) / median(plain.ms)).toFixed(2)),
  })
} finally {
  await deployment.close()
}
