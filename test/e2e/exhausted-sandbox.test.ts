import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { LocalProvider, type LocalProviderOptions } from '../../src/providers/local/index.js'
import { bubblewrapWorks } from '../servers/bubblewrap-places.js'
import { git, startDeployment, type Deployment } from './deployment.js'

/** Sandboxes in which a step leaves nothing to work with: the job ends once, with a clear sentence, in its time, and with what was saved before. */

const run = promisify(execFile)
const mount = (folder: string, options: string) => run('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', folder])
const canMount = await mkdtemp(join(tmpdir(), 'switchyard-mount-')).then(async (folder) => {
  const mounted = await mount(folder, 'size=1m').then(() => true, () => false)
  if (mounted) await run('umount', [folder])
  await rm(folder, { recursive: true, maxRetries: 10 })
  return mounted
})
const isolates = await bubblewrapWorks()

let deployment: Deployment
const mounted: string[] = []
const providers: LocalProvider[] = []
beforeAll(async () => {
  deployment = await startDeployment({ limits: [] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  const folder = async (name: string, options?: string) => {
    const path = join(deployment.dir, name)
    await mkdir(path, { mode: 0o700 })
    if (options === undefined || !canMount) return path
    await mount(path, options)
    mounted.push(path)
    return path
  }
  const provider = (name: string, options: LocalProviderOptions) => void providers.push(new LocalProvider({ name, ...options }))
  provider('processes', { stateDir: await folder('p'), maxProcesses: 60 })
  provider('disk', { stateDir: await folder('d', 'size=24m,mode=700') })
  provider('inodes', { stateDir: await folder('i', 'size=64m,nr_inodes=2000,mode=700') })
  await deployment.startConsumer({ providers: providers.map((each) => ({ provider: each, limit: { sandboxes: 1 } })) })
})
afterAll(async () => {
  for (const provider of providers) {
    for await (const { id } of provider.list({}, { timeoutMs: 20_000 })) await provider.kill(id, { timeoutMs: 20_000 })
    await provider.close()
  }
  for (const path of mounted) await run('umount', [path])
  await deployment.close()
})

const kinds = [
  ['processes', isolates, 'for i in $(seq 200); do sleep 1000 & done', /leave the sandbox no process to run anything in/],
  ['disk', canMount, 'cat /dev/zero > ~/fill', /disk is full/],
  ['inodes', canMount, 'mkdir ~/many; i=0; while : > ~/many/$i; do i=$((i + 1)); done', /disk is full|no room/],
] as const

describe('a step that uses up all', () => {
  it.each(kinds.filter(([, possible]) => possible))('%s', { timeout: 240_000 }, async (name, _possible, script, sentence) => {
    const job = await deployment.queue.enqueue({
      repository: 'acme/web',
      steps: [{ name: 'one', run: 'echo one > one.txt' }, { name: 'two', timeout: '8s', run: `echo two > two.txt; ${script} 2>/dev/null; sleep 1000` }],
      checkpoint: { everySeconds: 1 },
      promote: { to: 'main' },
      providers: { allow: [name] },
    })
    const result = await job.result({ timeoutMs: 180_000 })
    let log = ''
    for await (const line of job.logs()) log += line.text
    expect(result, log).toMatchObject({ status: 'failed', promoted: null, attempts: [{ provider: name }] })
    // No time is asserted but that it is not that of a call to git.
    expect(result.steps[1]?.durationMs ?? 0, log).toBeLessThan(60_000)
    expect(`${result.error?.message}\n${log}`).toMatch(sentence)
    const folder = await deployment.checkout('acme/web', result.branch!, true)
    expect(await git(folder, 'show', 'HEAD:one.txt')).toBe('one')
  })
})
