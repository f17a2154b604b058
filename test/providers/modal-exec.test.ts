import { randomUUID } from 'node:crypto'
import { Status } from 'nice-grpc'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { SandboxInfo } from '../../src/providers/provider.js'
import { bubblewrapWorks } from '../servers/bubblewrap-places.js'
import { countProcesses, failure, options, startModal, type ModalFixture } from './modal-fixture.js'

const hasBubblewrap = await bubblewrapWorks()

describe('commands at Modal', () => {
  let fixture: ModalFixture
  let sandbox: SandboxInfo
  beforeAll(async () => {
    fixture = await startModal()
    sandbox = await fixture.provider.create(fixture.request(), options)
  })
  afterAll(() => fixture.close())
  afterEach(() => fixture.server.plan.clear())

  const run = (script: string, id = sandbox.id) => fixture.provider.exec(id, { script }, options)
  const running = async (id: string) => {
    await expect.poll(() => fixture.server.host.processes(id).length).toBeGreaterThan(0)
    await expect.poll(() => fixture.server.openCalls('wait')).toBeGreaterThan(0)
  }

  it.skipIf(!hasBubblewrap)('runs as root in /root, as most images do', async () => {
    expect((await run('printf "%s %s" "$HOME" "$PWD"; id -u')).stdout).toBe('/root /root0\n')
  })

  it('bears a timeout of its own at the worker, later than the caller’s, in whole seconds', async () => {
    await fixture.provider.exec(sandbox.id, { script: 'true' }, { timeoutMs: 12_345 })
    const last = [...(fixture.server.world.sandboxes.get(sandbox.id)?.execs.values() ?? [])].at(-1)
    expect(last?.timeoutSecs).toBe(18)
  })

  it('hands secrets over beside the command line', async () => {
    const secret = `exec-secret-${randomUUID()}`
    const ending = new AbortController()
    const call = fixture.provider.exec(sandbox.id, { script: 'printf %s "$TOKEN" >"$HOME/token"; sleep 100', env: { TOKEN: secret } }, { ...options, signal: ending.signal })
    await expect.poll(async () => (await run('cat "$HOME/token" 2>/dev/null')).stdout).toBe(secret)
    expect(await countProcesses(secret)).toBe(0)
    ending.abort(new Error('seen enough'))
    await expect(call).rejects.toThrow('seen enough')
  })

  it('goes on reading by offset where a stream was cut', async () => {
    const before = fixture.calls('read')
    fixture.fault({ call: 'read', action: 'cut-stream', afterBytes: 70_000 }, { call: 'read', action: 'cut-stream', afterBytes: 1 })
    const { stdout, exitCode } = await run('i=0; while [ $i -lt 30000 ]; do echo $i; i=$((i+1)); done; exit 4')
    expect(stdout).toBe(Array.from({ length: 30_000 }, (_, index) => `${index}\n`).join(''))
    expect(exitCode).toBe(4)
    expect(fixture.calls('read') - before).toBe(3)
  })

  it('runs a command once when the answer to its start is lost', async () => {
    fixture.fault({ call: 'exec', action: 'lose-answer' })
    const before = fixture.calls('exec')
    await run('echo ran >>"$HOME/once"')
    expect(fixture.calls('exec') - before).toBe(2)
    expect((await run('cat "$HOME/once"')).stdout).toBe('ran\n')
  })

  it('connects again where the SDK has given an idle connection up', async () => {
    const before = process.env['MODAL_SANDBOX_CHANNEL_IDLE_TIMEOUT']
    process.env['MODAL_SANDBOX_CHANNEL_IDLE_TIMEOUT'] = '0.05'
    try {
      const other = fixture.another()
      const command = { script: 'sleep 0.2; echo "$$"' }
      const first = await other.exec(sandbox.id, command, options)
      await expect.poll(() => fixture.server.connections()).toBeLessThan(3)
      const second = await other.exec(sandbox.id, command, options)
      expect([first.exitCode, second.exitCode]).toEqual([0, 0])
      expect(second.stdout).not.toBe(first.stdout)
    } finally {
      if (before === undefined) delete process.env['MODAL_SANDBOX_CHANNEL_IDLE_TIMEOUT']
      else process.env['MODAL_SANDBOX_CHANNEL_IDLE_TIMEOUT'] = before
    }
  })

  it('survives a restart of all connections in the middle of a command', async () => {
    const call = run('echo one; while [ ! -e "$HOME/go" ]; do sleep 0.05; done; echo two')
    await running(sandbox.id)
    fixture.server.breakConnections()
    await run(': >"$HOME/go"')
    expect(await call).toEqual({ exitCode: 0, stdout: 'one\ntwo\n' })
  })

  it('is sandbox-lost when the sandbox is killed in the middle', async () => {
    const { id } = await fixture.provider.create(fixture.request(), options)
    const call = failure(run('sleep 100', id))
    await running(id)
    await fixture.server.host.destroy(id, 'killed')
    expect(await call).toMatchObject({ kind: 'sandbox-lost', source: 'modal' })
  })

  it('is sandbox-lost, not a hang, when the worker dies with the sandbox', async () => {
    const { id } = await fixture.provider.create(fixture.request(), options)
    const call = failure(fixture.provider.exec(id, { script: 'sleep 100' }, { timeoutMs: 8_000 }))
    await running(id)
    await fetch(`${fixture.server.adminUrl}/admin/sandboxes/${id}`, { method: 'DELETE' })
    expect(await call).toMatchObject({ kind: 'sandbox-lost' })
  })

  it('is sandbox-lost when the worker falls silent and Modal says that the sandbox has ended', async () => {
    const { id } = await fixture.provider.create(fixture.request(), options)
    fixture.fault({ call: 'read', action: 'hang', times: 0 }, { call: 'wait', action: 'hang', times: 0 })
    const call = failure(fixture.provider.exec(id, { script: 'sleep 100' }, { timeoutMs: 4_000 }))
    await expect.poll(() => fixture.server.openCalls('wait')).toBe(1)
    await fixture.server.host.destroy(id, 'killed')
    expect(await call).toMatchObject({ kind: 'sandbox-lost' })
  })

  it('ends at its deadline when nothing answers any more, and leaves no call open', async () => {
    const { id } = await fixture.provider.create(fixture.request(), options)
    fixture.fault({ call: 'read', action: 'hang', times: 0 }, { call: 'wait', action: 'hang', times: 0 }, { call: 'get', action: 'hang', times: 0 })
    expect(await failure(fixture.provider.exec(id, { script: 'sleep 100' }, { timeoutMs: 1_000 }))).toMatchObject({ kind: 'timeout' })
    for (const call of ['read', 'wait', 'get']) await expect.poll(() => fixture.server.openCalls(call)).toBe(0)
  })

  it('starts afresh after a start that was never answered', async () => {
    fixture.fault({ call: 'exec', action: 'hang' })
    expect(await failure(fixture.provider.exec(sandbox.id, { script: 'true' }, { timeoutMs: 500 }))).toMatchObject({ kind: 'timeout' })
    expect((await run('echo again')).stdout).toBe('again\n')
  })

  it('is sandbox-lost in a sandbox that ended, for a client that never knew it', async () => {
    const { id } = await fixture.provider.create(fixture.request(), options)
    await fixture.provider.kill(id, options)
    const before = fixture.calls('sandboxGetTaskIdV2')
    expect(await failure(fixture.another().exec(id, { script: 'true' }, options))).toMatchObject({ kind: 'sandbox-lost' })
    expect(fixture.calls('sandboxGetTaskIdV2') - before).toBe(1)
  })

  it('takes 137 for what the command did, while the sandbox lives', async () => {
    const before = fixture.calls('get')
    expect((await run('kill -KILL $$')).exitCode).toBe(137)
    expect(fixture.calls('get') - before).toBe(1)
  })

  it('ends with 128 + n for a signal n also where the worker tells it as a negative number', async () => {
    const other = await startModal({ negativeCodes: true })
    try {
      const { id } = await other.provider.create(other.request(), options)
      const code = async (script: string) => (await other.provider.exec(id, { script }, options)).exitCode
      expect([await code('kill -TERM $$'), await code('kill -KILL $$'), await code('exit 3')]).toEqual([143, 137, 3])
    } finally {
      await other.close()
    }
  })

  it('is invalid where the working directory is, or the script is too long, without a retry', async () => {
    expect(await failure(fixture.provider.exec(sandbox.id, { script: 'true', cwd: 'relative' }, options))).toMatchObject({ kind: 'invalid' })
    expect(await failure(fixture.provider.exec(sandbox.id, { script: 'true', cwd: '/no/such/folder' }, options))).toMatchObject({ kind: 'invalid' })
    const before = fixture.calls('exec')
    const error = await failure(run('#'.repeat(fixture.provider.capabilities.maxCommandBytes + 1)))
    expect(error).toMatchObject({ kind: 'invalid' })
    expect(error.message).toContain('write it to a file')
    expect(fixture.calls('exec')).toBe(before)
  })

  it('refuses output without bound instead of keeping it', async () => {
    const error = await failure(run('head -c 40000000 /dev/zero'))
    expect(error).toMatchObject({ kind: 'invalid' })
    expect(error.message).toContain('print less')
    await expect.poll(() => fixture.server.openCalls('wait')).toBe(0)
  })

  it('does not look for a sandbox when it was the API that failed', async () => {
    const fresh = fixture.another()
    fixture.fault({ call: 'sandboxGetTaskIdV2', action: 'status', status: Status.UNAUTHENTICATED, message: 'token revoked', times: 0 })
    const before = fixture.calls('get')
    expect(await failure(fresh.exec(sandbox.id, { script: 'true' }, options))).toMatchObject({ kind: 'auth', owner: 'consumer-keys' })
    expect(fixture.calls('get')).toBe(before)
  })
})
