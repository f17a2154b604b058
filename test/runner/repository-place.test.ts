import { spawn } from 'node:child_process'
import { afterEach, describe, expect, it } from 'vitest'
import type { ExecResult, Provider, ShellCommand } from '../../src/providers/provider.js'
import { createRunner, type Runner } from '../../src/runner/index.js'
import { bubblewrapPlaces, bubblewrapWorks, root, user, type Account } from '../servers/bubblewrap-places.js'
import type { Place } from '../servers/sandbox-host.js'
import { callOptions, runStep } from './process-sandbox.js'

/** Where the repository lies, in sandboxes whose users, homes and rights differ. */

const places: Place[] = []
afterEach(async () => {
  await Promise.all(places.splice(0).map((place) => place.close()))
})

function run(place: Place, { script, env = {} }: ShellCommand): Promise<ExecResult> {
  const entered = place.enter({ file: '/bin/sh', args: ['-c', script], env })
  return new Promise((resolve, reject) => {
    const child = spawn(entered.file, entered.args, { env: entered.env, cwd: entered.cwd, stdio: ['ignore', 'pipe', 'ignore'] })
    let stdout = ''
    child.stdout.on('data', (piece: Buffer) => (stdout += piece.toString()))
    child.once('error', reject)
    child.once('close', (code) => resolve({ exitCode: code ?? 137, stdout }))
  })
}

async function opened(account: Account, view: readonly string[] = [], env: Record<string, string> = {}, sharedSystem = false): Promise<{ runner: Runner; look: (script: string) => Promise<string> }> {
  const place = await bubblewrapPlaces(account, { view })('one', 'open')
  places.push(place)
  const exec = (command: ShellCommand) => run(place, { ...command, env: { ...env, ...command.env } })
  const provider = { name: 'test', capabilities: { maxCommandBytes: 100_000, sharedSystem, resources: { cpu: false, memory: false, disk: false } }, exec: (_id: string, command: ShellCommand) => exec(command) } as unknown as Provider
  return { runner: createRunner({ provider, sandboxId: 'one', backoffMs: () => 1 }), look: async (script) => (await exec({ script })).stdout }
}

const wanted = '/home/user/repository'
const kinds: readonly (readonly [string, Parameters<typeof opened>, string])[] = [
  ['a user whose home it is', [user], wanted],
  ['root, in an image without that home', [root], wanted],
  ['root, in an image that has that home', [root, ['--dir', '/home/user']], wanted],
  ['a system where it can’t be made', [root, ['--remount-ro', '/home']], '/root/repository'],
  ['an image that has something there', [root, ['--dir', '/home/user/repository']], '/root/repository'],
  ['an image whose home leads elsewhere', [root, ['--tmpfs', '/home', '--dir', '/home/other', '--symlink', 'other', '/home/user']], '/root/repository'],
  ['a place with hardly any room', [root, ['--size', '1048576', '--tmpfs', '/home/user']], '/root/repository'],
  ['an image that does not want it', [root, [], { SWITCHYARD_REPOSITORY_IN_HOME: '1' }], '/root/repository'],
  ['a provider whose sandboxes share a system', [root, [], {}, true], '/root/repository'],
]

describe.skipIf(!(await bubblewrapWorks()))('the repository’s folder', () => {
  it.each(kinds)('of %s', async (_kind, given, expected) => {
    const { runner, look } = await opened(...given)
    expect((await runner.install(callOptions)).repositoryPath).toBe(expected)
    // For good: whatever becomes of the folder, and whoever asks.
    await look(`rm -rf ${expected}; mkdir -p /home/user/repository`)
    expect((await runner.install(callOptions)).repositoryPath).toBe(expected)
    await look(`mkdir -p ${expected}`)
    expect((await runStep(runner, 'pwd; pwd -P')).stdout.toString()).toBe(`${expected}\n${expected}\n`)
  })
})
