import { Sandbox } from 'e2b'
import { describe, expect, it } from 'vitest'
import { startE2bServer } from '../servers/e2b/server.js'
import { failure, options, startE2b } from './e2b-fixture.js'

describe('the server that speaks E2B’s protocol', () => {
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
      const sleeper = await sandbox.commands.run('echo up; sleep 60', { background: true })
      // A command that has not begun yet may outlive the one that begins it.
      await expect.poll(() => sleeper.stdout).toBe('up\n')
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
