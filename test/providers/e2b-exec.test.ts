import { execFile } from 'node:child_process'
import { randomInt, randomUUID } from 'node:crypto'
import { promisify } from 'node:util'
import { Sandbox } from 'e2b'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { maxStdoutBytes } from '../../src/providers/e2b/command.js'
import { E2bProvider, e2bProviderConfigSchema } from '../../src/providers/e2b/index.js'
import { loaderArgs, ownFile } from '../own-programs.js'
import { bubblewrapWorks } from '../servers/bubblewrap-places.js'
import { countProcesses, failure, options, startE2b, type E2bFixture } from './e2b-fixture.js'

/** Nobody else's on this machine. */
const secret = `secret-${randomUUID()}`

const hasBubblewrap = await bubblewrapWorks()

describe('commands at E2B', () => {
  let fixture: E2bFixture
  let id: string
  beforeAll(async () => {
    fixture = await startE2b()
    id = (await fixture.provider.create(fixture.request(), options)).id
  })
  afterAll(() => fixture.close())

  it.skipIf(!hasBubblewrap)('runs where a sandbox of E2B would: in /home/user, as user', async () => {
    expect((await fixture.provider.exec(id, { script: 'pwd; id -un; touch "$HOME/x" /tmp/x && ls "$HOME" /tmp | grep -c "^x"' }, options)).stdout).toBe('/home/user\nuser\n2\n')
  })

  it('gives the SDK a timeout of our own, which its default of 60 s would cut short', async () => {
    const seen = await startTimeouts(fixture, async () => {
      await fixture.provider.exec(id, { script: 'true' }, { timeoutMs: 300_000 })
    })
    expect(seen).toEqual(['300000'])
  })

  it('takes a deadline beyond what timers hold', async () => {
    expect(await fixture.provider.exec(id, { script: 'echo on' }, { timeoutMs: 2 ** 40 })).toEqual({ exitCode: 0, stdout: 'on\n' })
    expect(await fixture.provider.get(id, { timeoutMs: 2 ** 40 })).toMatchObject({ id })
  })

  it('leaves a cancelled command running, which a kill of the sandbox ends', async () => {
    const marker = `8${randomInt(1_000_000_000)}`
    const own = (await fixture.provider.create(fixture.request(), options)).id
    const controller = new AbortController()
    const running = fixture.provider.exec(own, { script: `sleep ${marker}; true` }, { ...options, signal: controller.signal })
    await expect.poll(() => countProcesses(marker)).toBeGreaterThan(0)
    controller.abort(new Error('drained'))
    await expect(running).rejects.toThrow('drained')
    expect(await countProcesses(marker)).toBeGreaterThan(0)
    await fixture.provider.kill(own, options)
    expect(await countProcesses(marker)).toBe(0)
  })

  it('keeps a bounded part of an unbounded output, and the exit code', async () => {
    const { exitCode, stdout } = await fixture.provider.exec(id, { script: 'head -c 100000000 /dev/zero | tr "\\0" x; head -c 100000000 /dev/zero >&2; exit 7' }, options)
    expect(exitCode).toBe(7)
    expect(stdout.length).toBe(maxStdoutBytes)
  })

  it('passes no secret in the arguments of any process; E2B’s own list shows the environment', async () => {
    const handle = await Sandbox.connect(id, { apiKey: fixture.server.apiKey, apiUrl: fixture.server.url, sandboxUrl: fixture.server.url })
    const running = fixture.provider.exec(id, { script: 'until [ -e "$HOME/seen" ]; do sleep 0.02; done', env: { TOKEN: secret } }, options)
    await expect.poll(async () => (await handle.commands.list()).length).toBe(1)
    const [listed] = await handle.commands.list()
    expect(JSON.stringify(listed?.args)).not.toContain(secret)
    expect(await countProcesses(secret)).toBe(0)
    expect(listed?.envs).toEqual({ TOKEN: secret }) // Why a write token must live for seconds only.
    await fixture.provider.exec(id, { script: ': >"$HOME/seen"' }, options)
    await running
  })

  describe('with a login profile that the job wrote', () => {
    it.each([
      ['prints', 'echo welcome; echo error >&2; set -u'],
      ['ends the shell', 'exit 0'],
      ['becomes another program', 'exec sleep 1000'],
      ['never ends', 'sleep 1000'],
      ['loses the PATH', 'export PATH=/nowhere'],
      ['is no shell script', 'if then else ('],
    ])('that %s, reads none of it', async (_what, profile) => {
      const own = (await fixture.provider.create(fixture.request(), options)).id
      const write = 'for file in .bash_profile .bash_login .profile .bashrc; do printf "%s\\n" "$PROFILE" >"$HOME/$file"; done'
      await fixture.provider.exec(own, { script: write, env: { PROFILE: profile } }, options)
      for (const provider of [fixture.provider, fixture.another()]) {
        expect(await provider.exec(own, { script: 'ls / >/dev/null; echo mine; exit 3' }, options)).toEqual({ exitCode: 3, stdout: 'mine\n' })
      }
      await fixture.provider.kill(own, options)
    })

    it('does not even show what its commands are run with', async () => {
      const own = (await fixture.provider.create(fixture.request(), options)).id
      expect((await fixture.provider.exec(own, { script: 'printf "%s|" "$0" "$#" "$@"; shopt -q login_shell 2>/dev/null && echo login' }, options)).stdout).toMatch(/^(\/bin\/)?sh\|0\|$/)
    })
  })

  it('refuses a script that is too long to pass', async () => {
    const error = await failure(fixture.provider.exec(id, { script: '#'.repeat(60_001) }, options))
    expect(error).toMatchObject({ kind: 'invalid' })
    expect(await fixture.provider.exec(id, { script: `:${` '\\'`.repeat(11_000)}`.padEnd(60_000, '\\') }, options)).toMatchObject({ exitCode: expect.any(Number) as number })
  })

  it('runs commands in many sandboxes at once', async () => {
    const ids = await Promise.all(Array.from({ length: 10 }, async () => (await fixture.provider.create(fixture.request(), options)).id))
    const outputs = await Promise.all(ids.map((own) => fixture.provider.exec(own, { script: 'sleep 0.2; printf %s "$ID"', env: { ID: own } }, options)))
    expect(outputs.map(({ stdout }) => stdout)).toEqual(ids)
    await Promise.all(ids.map((own) => fixture.provider.kill(own, options)))
  })
})

describe('the SDK', () => {
  it('is loaded by the first call, not by the adapter', async () => {
    const gone = await startE2b()
    await gone.server.close()
    // One of the SDK's dependencies is CommonJS, so its loading shows in the cache of require.
    const script = `
      const { createRequire } = await import('node:module')
      const loaded = () => Object.keys(createRequire(process.cwd() + '/package.json').cache).some((name) => name.includes('dockerfile-ast'))
      const { E2bProvider, e2bProviderConfigSchema } = await import(${JSON.stringify(ownFile('src/providers/e2b/index.ts'))})
      const provider = new E2bProvider(e2bProviderConfigSchema.parse({ apiUrl: '${gone.server.url}' }), { environment: { E2B_API_KEY: 'key' } })
      const before = loaded()
      const kind = await provider.check({ timeoutMs: 5000 }).catch((error) => error.kind)
      console.log(JSON.stringify({ before, after: loaded(), kind }))`
    const { stdout } = await promisify(execFile)(process.execPath, [...loaderArgs, '--input-type=module', '-e', script])
    expect(JSON.parse(stdout)).toEqual({ before: false, after: true, kind: 'provider-down' })
  })

  it('that is not installed is invalid, with the command that installs it', async () => {
    const load = () => Promise.reject(Object.assign(new Error("Cannot find package 'e2b'"), { code: 'ERR_MODULE_NOT_FOUND' }))
    const error = await failure(new E2bProvider(e2bProviderConfigSchema.parse({}), { environment: { E2B_API_KEY: 'key' }, load }).check(options))
    expect(error.kind).toBe('invalid')
    expect(error.message).toContain('npm install e2b@2.51')
  })
})

/** The timeouts that the SDK asks for when it starts commands, as the server sees them. */
async function startTimeouts(fixture: E2bFixture, run: () => Promise<void>): Promise<(string | undefined)[]> {
  const seen: (string | undefined)[] = []
  const stop = fixture.server.onRequest((request) => {
    if (request.url === '/process.Process/Start') seen.push(String(request.headers['connect-timeout-ms']))
  })
  await run()
  stop()
  return seen
}
