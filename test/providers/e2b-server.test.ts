import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { Sandbox } from 'e2b'
import { describe, expect, it } from 'vitest'
import { E2bProvider, e2bProviderConfigSchema } from '../../src/providers/e2b/index.js'
import { startE2bServer } from '../servers/e2b/server.js'
import { failure, options, startE2b } from './e2b-fixture.js'

describe('the server that speaks E2B’s protocol', () => {
  it('starts alone, takes faults over HTTP, counts, and ends its sandboxes with itself', async () => {
    const child = spawn(process.execPath, ['--import', 'tsx', 'test/servers/e2b/main.ts', '--port', '0', '--max-concurrent', '2', '--api-key', 'e2b_alone'], { stdio: ['ignore', 'pipe', 'inherit'] })
    try {
      const [line] = (await once(createInterface(child.stdout), 'line')) as [string]
      const url = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0] ?? ''
      const provider = new E2bProvider(e2bProviderConfigSchema.parse({ apiUrl: url, sandboxUrl: url }), { environment: { E2B_API_KEY: 'e2b_alone' } })
      const request = { name: 'alone', tags: {}, image: undefined, resources: {}, lifetimeMs: 60_000, network: 'open' as const, gitHosts: [] }
      const { id } = await provider.create(request, options)
      expect((await provider.exec(id, { script: 'echo hello' }, options)).stdout).toBe('hello\n')

      const admin = (method: string, path: string, body?: unknown) => fetch(`${url}/admin/${path}`, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
      expect((await admin('POST', 'faults', { call: 'get', action: 'nonsense' })).status).toBe(400)
      expect((await admin('POST', 'faults', { call: 'get', action: 'status', status: 401 })).status).toBe(200)
      expect((await failure(provider.get(id, options))).kind).toBe('auth')
      await admin('PUT', 'mode', { down: 'refuse' })
      expect((await failure(provider.get(id, options))).kind).toBe('transient')
      await admin('PUT', 'mode', { down: 'up' })
      expect((await provider.get(id, options))?.id).toBe(id)
      await provider.create(request, options)
      expect((await failure(provider.create(request, options))).kind).toBe('capacity')
      expect((await admin('DELETE', `sandboxes/${id}`)).status).toBe(204)
      expect((await failure(provider.exec(id, { script: 'true' }, options))).kind).toBe('sandbox-lost')
      const state: unknown = await (await admin('GET', 'state')).json()
      expect(state).toMatchObject({ live: 1, maxLive: 2, created: 2, ended: { crashed: 1 }, calls: { create: 3 }, down: 'up', faults: [] })
    } finally {
      child.kill('SIGTERM')
      await once(child, 'exit')
    }
  })

  it('serves the SDK as it is: files, exit codes, signals, input, re-attaching without replay', async () => {
    const server = await startE2bServer()
    try {
      const connection = { apiKey: server.apiKey, apiUrl: server.url, sandboxUrl: server.url }
      const sandbox = await Sandbox.create('base', { ...connection, envs: { FROM_CREATE: 'yes' } })
      await sandbox.files.write('deep/er/file.txt', 'content')
      expect(await sandbox.files.read('deep/er/file.txt')).toBe('content')
      expect((await sandbox.commands.run('printf %s "$FROM_CREATE"')).stdout).toBe('yes')
      await expect(sandbox.commands.run('echo out; echo err >&2; exit 3')).rejects.toMatchObject({ name: 'CommandExitError', exitCode: 3, stdout: 'out\n', stderr: 'err\n' })
      await expect(sandbox.commands.run('sleep 60', { timeoutMs: 200 })).rejects.toMatchObject({ name: 'TimeoutError' })
      const cat = await sandbox.commands.run('echo first; cat', { background: true, stdin: true })
      await expect.poll(() => cat.stdout).toBe('first\n')
      await cat.disconnect()
      const again = await sandbox.commands.connect(cat.pid)
      await sandbox.commands.sendStdin(cat.pid, 'second\n')
      await expect.poll(() => again.stdout).toBe('second\n')
      await sandbox.commands.closeStdin(cat.pid)
      expect(await again.wait()).toMatchObject({ exitCode: 0 })
      const sleeper = await sandbox.commands.run('sleep 60', { background: true })
      expect(await sleeper.kill()).toBe(true)
      await expect(sleeper.wait()).rejects.toMatchObject({ name: 'CommandExitError' })
      expect(await sandbox.kill()).toBe(true)
      expect(await sandbox.isRunning()).toBe(false)
      expect(await Sandbox.kill(sandbox.sandboxId, connection)).toBe(false)
    } finally {
      await server.close()
    }
  })

  it('is gone and comes back', async () => {
    const fixture = await startE2b()
    try {
      const { id } = await fixture.provider.create(fixture.request(), options)
      fixture.server.faults.setMode({ down: 'hang' })
      expect((await failure(fixture.provider.exec(id, { script: 'true' }, { timeoutMs: 300 }))).kind).toBe('timeout')
      fixture.server.faults.clear()
      expect((await fixture.provider.exec(id, { script: 'echo back' }, options)).stdout).toBe('back\n')
    } finally {
      await fixture.close()
    }
  })
})
