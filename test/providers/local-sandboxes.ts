import { spawnSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LocalProvider, type LocalProviderOptions } from '../../src/providers/local/index.js'
import { type ExecResult, type SandboxInfo, type SandboxRequest, sandboxTags } from '../../src/providers/provider.js'
import { after } from '../undo.js'

export { processesWith } from '../processes.js'

/** Whether this machine lets this user make sandboxes with bubblewrap; tests of them are skipped otherwise. */
export const bubblewrapWorks =
  spawnSync('bwrap', ['--unshare-user', '--uid', '0', '--unshare-pid', '--ro-bind', '/', '/', '--proc', '/proc', '--dev', '/dev', 'true']).status === 0

export const call = { timeoutMs: 30_000 }

/** What a sandbox that ended by itself leaves is removed meanwhile by its holder, so that a folder may fill or empty under this removal. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-local-'))
  after(() => rm(folder, { recursive: true, force: true, maxRetries: 10 }))
  return folder
}

/** A provider whose sandboxes are killed at the test's end. */
export async function localProvider(options: LocalProviderOptions = {}): Promise<LocalProvider & { readonly stateDir: string }> {
  const stateDir = options.stateDir ?? (await temporaryFolder())
  const provider = new LocalProvider({ ...options, stateDir })
  after(async () => {
    for await (const { id } of provider.list({}, call)) await provider.kill(id, call)
  })
  return Object.assign(provider, { stateDir })
}

let counter = 0
export function request(changes: Partial<SandboxRequest> = {}): SandboxRequest {
  return {
    name: `test-${++counter}`,
    tags: sandboxTags({ deployment: 'test', runId: `job-${counter}`, attempt: 1 }),
    image: undefined,
    resources: {},
    lifetimeMs: 600_000,
    network: 'open',
    gitHosts: [],
    ...changes,
  }
}

export function run(provider: LocalProvider, sandbox: SandboxInfo, script: string, env: Record<string, string> = {}): Promise<ExecResult> {
  return provider.exec(sandbox.id, { script, env }, call)
}

/** A number that `sleep` takes and that no other process has. */
export function uniqueSeconds(): string {
  return `8${randomInt(1_000_000_000)}${++counter}`
}
