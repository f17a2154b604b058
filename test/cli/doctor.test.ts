import { writeFile } from 'node:fs/promises'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { exitCodeOf, rows, summary } from '../../src/cli/doctor/report.js'
import { mendOf, providerChecks } from '../../src/cli/doctor/mends.js'
import { killForSure, killUnanswered } from '../../src/cli/doctor/leftovers.js'
import type { CheckResult } from '../../src/cli/doctor/check-result.js'
import { generateDevelopmentKeys } from '../../src/embedded/index.js'
import { TokenMinter } from '../../src/git/index.js'
import { InfrastructureError, infrastructureErrorKinds } from '../../src/job/errors.js'
import type { Provider, SandboxInfo } from '../../src/providers/provider.js'
import { startE2bServer } from '../servers/e2b/server.js'
import { check, openClinic, outcomes, repository, type Clinic } from './doctor-fixture.js'
import { makePlace } from './run-switchyard.js'

let clinic: Clinic
beforeAll(async () => {
  clinic = await openClinic()
})
afterAll(() => clinic.close())
afterEach(() => clinic.reset())

const only = (...names: (keyof Clinic['entries'])[]) => clinic.config({ providers: names.map((name) => clinic.entries[name]) })
const soon = { callTimeoutMs: 3_000, createTimeoutMs: 3_000 }
const nothingLeft = async () => {
  expect(clinic.living()).toEqual({ e2b: 0, modal: 0, daytona: 0 })
  expect(await clinic.scratchBranches()).toEqual([])
}
const allWell = Object.fromEntries(providerChecks.map((name) => [name, 'ok']))

describe('a deployment that is well', () => {
  it('passes every check at every provider, and nothing is left', async () => {
    const results = await clinic.doctor()
    expect(results.filter(({ outcome }) => outcome === 'failed')).toEqual([])
    expect(outcomes(results, 'redis')).toEqual({ connect: 'ok', version: 'ok', eviction: 'ok', write: 'ok', rights: 'ok' })
    expect(outcomes(results, 'git')).toEqual({ host: 'ok', repository: 'ok' })
    expect(outcomes(results, 'e2b')).toEqual(allWell)
    expect(outcomes(results, 'daytona')).toEqual(allWell)
    // Its app did not exist before; its lifetimes can't be extended.
    expect(outcomes(results, 'modal')).toMatchObject({ create: 'ok', exec: 'ok', clone: 'ok', push: 'ok', lifetime: 'skipped', kill: 'ok', 'delete branch': 'ok' })
    expect(outcomes(results, 'local')).toMatchObject({ create: 'ok', exec: 'ok', clone: 'ok', push: 'ok', lifetime: 'ok', kill: 'ok', 'delete branch': 'ok' })
    for (const result of results) expect(result.durationMs, result.check).toBeGreaterThanOrEqual(0)
    expect([clinic.e2b.host.state().created, clinic.modal.state().created, clinic.daytona.createBodies.length]).toEqual([1, 1, 1])
    await nothingLeft()
    expect(exitCodeOf(results, false)).toBe(0)
    for (const secret of [...Object.values(clinic.environment).filter((value) => value !== '/dev/null'), clinic.storage.privateKey, new URL(clinic.redis.url).password]) {
      expect(JSON.stringify(results)).not.toContain(secret)
    }
  })

  it('is cloned from and pushed to in the way that each provider’s credentials say', async () => {
    const { e2b, modal, daytona } = clinic.entries
    const providers = [{ ...e2b, credentials: 'injected' as const }, { ...modal, credentials: 'injected' as const }, { ...daytona, credentials: 'brokered' as const }]
    const results = await clinic.doctor(clinic.config({ providers }))
    expect(results.filter(({ outcome }) => outcome === 'failed')).toEqual([])
    for (const [name, mode] of [['e2b', 'injected'], ['modal', 'injected'], ['daytona', 'brokered']] as const) {
      expect(check(results, name, 'clone').detail).toContain(`credentials ${mode}`)
      expect(outcomes(results, name)).toMatchObject({ clone: 'ok', push: 'ok', kill: 'ok', 'delete branch': 'ok' })
    }
    await nothingLeft()
  })

  it('but for a team that may not have headers injected fails at the clone, before any job does', async () => {
    const server = await startE2bServer({ plan: { networkTransforms: false } })
    try {
      const entry = { ...clinic.entries.e2b, apiUrl: server.url, sandboxUrl: server.url, credentials: 'injected' as const }
      const results = await clinic.doctor(clinic.config({ providers: [entry] }), { environment: { ...clinic.environment, E2B_API_KEY: server.apiKey } })
      expect(check(results, 'e2b', 'clone')).toMatchObject({ outcome: 'failed', errorKind: 'invalid', detail: expect.stringContaining('not available for your team') as string })
      expect(outcomes(results, 'e2b')).toMatchObject({ exec: 'ok', push: 'skipped', kill: 'ok' })
      expect(server.host.state().live).toBe(0)
    } finally {
      await server.close()
    }
  })

  it('is checked without a repository as far as that goes', async () => {
    const results = await clinic.doctor(only('e2b'), { repository: undefined })
    expect(outcomes(results, 'git')).toEqual({ host: 'ok', repository: 'skipped' })
    expect(outcomes(results, 'e2b')).toEqual({ ...allWell, clone: 'skipped', push: 'skipped', 'delete branch': 'skipped' })
    await nothingLeft()
  })

  it('is checked at one provider alone, and a name that is not configured is wrong usage', async () => {
    const before = clinic.e2b.host.state().created
    const results = await clinic.doctor(clinic.config(), { only: ['local'], repository: undefined })
    expect([...new Set(results.map(({ name }) => name))].sort()).toEqual(['git', 'local', 'redis'])
    expect(clinic.e2b.host.state().created).toBe(before)
    await expect(clinic.doctor(clinic.config(), { only: ['nope'] })).rejects.toThrow('--provider: "nope" is not configured; configured are: local, e2b, modal, daytona')
    await expect(clinic.doctor(clinic.config(), { repository: '../x' })).rejects.toThrow('--repository: "../x"')
  })
})

describe('bad input', () => {
  it('a wrong key is an auth error at once, names its variable, and is not printed; the other providers are checked all the same', async () => {
    const environment = { ...clinic.environment, E2B_API_KEY: 'e2b_wrong_key', MODAL_TOKEN_SECRET: 'as-wrong-secret', DAYTONA_API_KEY: 'dtn_wrong_key' }
    const created = clinic.e2b.host.state().created
    const results = await clinic.doctor(clinic.config(), { environment })
    for (const [name, says] of [['e2b', 'E2B_API_KEY'], ['modal', 'Modal token'], ['daytona', 'DAYTONA_API_KEY']] as const) {
      const failed = check(results, name, 'credentials')
      expect(failed).toMatchObject({ outcome: 'failed', errorKind: 'auth' })
      expect(failed.detail).toContain(says)
      expect(failed.mend).toContain(`put valid credentials of the provider "${name}"`)
      expect(outcomes(results, name)).toEqual({ ...Object.fromEntries(providerChecks.map((each) => [each, 'skipped'])), credentials: 'failed' })
    }
    expect(outcomes(results, 'local')).toMatchObject({ push: 'ok', kill: 'ok' })
    expect(JSON.stringify(results)).not.toMatch(/wrong_key|wrong-secret/)
    expect(clinic.e2b.host.state().created).toBe(created)
    expect(exitCodeOf(results, false)).toBe(3)
  })

  it('a missing or empty key likewise', async () => {
    const environment = { MODAL_TOKEN_ID: ' ', DAYTONA_API_KEY: '' }
    const results = await clinic.doctor(only('e2b', 'modal', 'daytona'), { environment })
    for (const [name, variable] of [['e2b', 'E2B_API_KEY'], ['modal', 'MODAL_TOKEN_ID'], ['daytona', 'DAYTONA_API_KEY']] as const) {
      expect(check(results, name, 'credentials')).toMatchObject({ outcome: 'failed', errorKind: 'auth', detail: expect.stringContaining(variable) as string })
    }
  })

  it('an unknown template or image is found by the create, and only there', async () => {
    const { e2b, modal, daytona } = clinic.entries
    const providers = [{ ...e2b, template: 'no-such-template' }, { ...modal, image: 'no-such-image' }, { ...daytona, image: 'no-such-image:1' }]
    const results = await clinic.doctor(clinic.config({ providers }))
    for (const name of ['e2b', 'modal', 'daytona']) {
      expect(check(results, name, 'create'), name).toMatchObject({ outcome: 'failed', errorKind: 'invalid', detail: expect.stringContaining('no-such-') as string, mend: expect.stringContaining('name an image or template that exists') as string })
      expect(outcomes(results, name)).toMatchObject({ exec: 'skipped', push: 'skipped' })
    }
    expect(check(results, 'e2b', 'credentials')).toMatchObject({ outcome: 'warning', detail: expect.stringContaining('no-such-template') as string })
    await nothingLeft()
    expect(exitCodeOf(results, false)).toBe(2)
    const onLocal = await clinic.doctor(only('local'), { image: 'python:3.12' })
    expect(check(onLocal, 'local', 'create')).toMatchObject({ outcome: 'failed', errorKind: 'invalid', detail: expect.stringContaining('image') as string })
  })

  it('a lifetime above the plan’s is found', async () => {
    const results = await clinic.doctor(clinic.config({ providers: [{ ...clinic.entries.e2b, maxLifetime: '24h' }] }), { repository: undefined })
    expect(outcomes(results, 'e2b')).toEqual({ ...allWell, clone: 'skipped', push: 'skipped', lifetime: 'failed', 'delete branch': 'skipped' })
    expect(check(results, 'e2b', 'lifetime')).toMatchObject({ errorKind: 'invalid', mend: expect.stringContaining('set maxLifetime') as string })
    await nothingLeft()
  })

  it('a mistake in an entry is a row, and Redis and git are checked all the same', async () => {
    const results = await clinic.doctor(clinic.config({ providers: [{ ...clinic.entries.e2b, tempalte: 'x' }], git: { type: 'code-storage' } }))
    expect(check(results, 'providers', 'configuration')).toMatchObject({ outcome: 'failed', errorKind: 'invalid', detail: expect.stringContaining('tempalte') as string })
    expect(check(results, 'git', 'host')).toMatchObject({ outcome: 'failed', errorKind: 'invalid', detail: expect.stringContaining('git.org') as string })
    expect(outcomes(results, 'redis')).toMatchObject({ connect: 'ok' })
    expect(exitCodeOf(results, false)).toBe(2)
  })
})

describe('a provider that is not well', () => {
  it('is down', async () => {
    for (const plan of [clinic.e2b.faults, clinic.modal.plan, clinic.daytona.plan]) plan.setMode({ down: 'refuse' })
    const results = await clinic.doctor(clinic.config({ consumer: soon }), { repository: undefined })
    for (const name of ['e2b', 'modal', 'daytona']) {
      expect(check(results, name, 'credentials'), name).toMatchObject({ outcome: 'failed', mend: expect.stringContaining('status page') as string })
      expect(outcomes(results, name)).toMatchObject({ create: 'skipped', kill: 'skipped' })
    }
    expect(outcomes(results, 'local')).toMatchObject({ exec: 'ok', kill: 'ok' })
    expect(exitCodeOf(results, false)).toBe(3)
  })

  it('never answers', async () => {
    for (const plan of [clinic.e2b.faults, clinic.modal.plan, clinic.daytona.plan]) plan.setMode({ down: 'hang' })
    const results = await clinic.doctor(only('e2b', 'modal', 'daytona'), { timeoutMs: 1_000 })
    for (const name of ['e2b', 'modal', 'daytona']) {
      expect(check(results, name, 'credentials'), name).toMatchObject({ outcome: 'failed', errorKind: expect.stringMatching(/timeout|provider-down|transient/) as string })
    }
  })

  it('never answers a command: that fails, what stands on it is skipped, and the sandbox is killed', async () => {
    clinic.e2b.faults.add({ call: 'start', action: 'hang', times: 0 })
    clinic.daytona.plan.add({ call: 'execute', action: 'hang', times: 0 })
    clinic.modal.plan.add({ call: 'exec', action: 'hang', times: 0 })
    const results = await clinic.doctor(only('e2b', 'modal', 'daytona'), { timeoutMs: 5_000 })
    for (const name of ['e2b', 'modal', 'daytona']) {
      expect(outcomes(results, name), name).toMatchObject({ create: 'ok', exec: 'failed', clone: 'skipped', push: 'skipped', lifetime: 'skipped', kill: 'ok' })
      expect(check(results, name, 'clone').detail).toBe('exec failed')
    }
    await nothingLeft()
  })

  it('loses the sandbox in the middle', async () => {
    clinic.e2b.faults.add({ call: 'start', action: 'kill-sandbox', skip: 3 })
    const results = await clinic.doctor(only('e2b'))
    expect(outcomes(results, 'e2b')).toMatchObject({ create: 'ok', kill: 'ok' })
    expect(results.find(({ outcome }) => outcome === 'failed')).toMatchObject({ errorKind: 'sandbox-lost' })
    await nothingLeft()
  })

  it('is full', async () => {
    clinic.e2b.faults.add({ call: 'create', action: 'status', status: 429, message: 'you have reached the maximum number of concurrent E2B sandboxes (20)' })
    const results = await clinic.doctor(only('e2b'))
    expect(check(results, 'e2b', 'create')).toMatchObject({ outcome: 'failed', errorKind: 'capacity', mend: expect.stringContaining('limit.sandboxes') as string })
    expect(check(results, 'e2b', 'kill').outcome).toBe('skipped')
  })

  it('makes a sandbox without saying so: it is found by its tags and killed', async () => {
    clinic.e2b.faults.add({ call: 'create', action: 'lose-answer' })
    // The adapter looks for it too, and is told for as long as it looks that there is none.
    clinic.e2b.faults.setMode({ listDelayMs: 2_500 })
    const results = await clinic.doctor(only('e2b'), { timeoutMs: 2_000 })
    expect(check(results, 'e2b', 'create').outcome).toBe('failed')
    expect(check(results, 'e2b', 'kill')).toMatchObject({ outcome: 'ok', detail: expect.stringMatching(/^the create had made i/) as string })
    await nothingLeft()
  })

  it('does not kill: that is a failure which names the sandbox, and never done', async () => {
    clinic.e2b.faults.add({ call: 'kill', action: 'status', status: 500, times: 0 })
    clinic.daytona.plan.add({ call: 'delete', action: 'corrupt', variant: 'stuck', times: 0 })
    clinic.modal.plan.add({ call: 'kill', action: 'status', status: 13, times: 0 })
    const results = await clinic.doctor(only('e2b', 'modal', 'daytona'), { timeoutMs: 2_000, repository: undefined })
    for (const name of ['e2b', 'modal', 'daytona']) {
      const id = check(results, name, 'create').detail
      expect(check(results, name, 'kill'), name).toMatchObject({ outcome: 'failed', detail: expect.stringContaining(`sandbox ${id} may still live`) as string, mend: expect.stringContaining('by hand') as string })
    }
    expect(clinic.living()).toEqual({ e2b: 1, modal: 1, daytona: 1 })
    expect(exitCodeOf(results, false)).toBe(3)
  })
})

describe('a git host that is not well', () => {
  it('is away: providers are checked without it', async () => {
    clinic.storage.server.setOutage({ kind: 'refuse', of: 'all' })
    const results = await clinic.doctor(only('e2b'))
    expect(check(results, 'git', 'host').outcome).toBe('failed')
    expect(outcomes(results, 'e2b')).toEqual({ ...allWell, clone: 'skipped', push: 'skipped', 'delete branch': 'skipped' })
    expect(check(results, 'e2b', 'clone').detail).toBe('the git host failed')
    expect(exitCodeOf(results, false)).toBe(3)
  })

  it('does not know the key', async () => {
    const keyFile = join(clinic.folder, 'other.pem')
    await writeFile(keyFile, generateDevelopmentKeys().privateKey)
    const { url, apiUrl } = clinic.storage.server
    const results = await clinic.doctor({ ...only('local'), git: { type: 'code-storage', org: 'acme', privateKeyFile: keyFile, storageUrl: url, apiUrl } })
    expect(check(results, 'git', 'host')).toMatchObject({ outcome: 'failed', errorKind: 'auth', mend: expect.stringContaining('register its public half') as string })
    expect(outcomes(results, 'git')).toMatchObject({ repository: 'skipped' })
  })

  it('has no such repository', async () => {
    const results = await clinic.doctor(only('local'), { repository: 'acme/nothing' })
    expect(check(results, 'git', 'repository')).toMatchObject({ outcome: 'failed', errorKind: 'invalid', detail: expect.stringContaining('"acme/nothing" does not exist') as string })
    expect(outcomes(results, 'local')).toMatchObject({ exec: 'ok', clone: 'skipped', kill: 'ok' })
  })

  it('refuses the push, and then the deletion: both are failures that name the branch', async () => {
    const { server, host } = clinic.storage
    const token = async (id: string, access: 'read' | 'write') =>
      access === 'write' ? { username: 't', token: 'not-a-token' } : { username: 't', token: (await host.readAccess(id, { ephemeral: false })).token }
    const results = await clinic.doctor({ ...only('local'), git: { type: 'https', url: server.url, token } })
    expect(check(results, 'local', 'push')).toMatchObject({ outcome: 'failed', errorKind: 'auth', mend: expect.stringContaining('push') as string })
    expect(check(results, 'local', 'kill').outcome).toBe('ok')
    expect(check(results, 'local', 'delete branch')).toMatchObject({ outcome: 'failed', detail: expect.stringMatching(/the branch doctor\/\w+-local of acme\/web may still be there/) as string })
    expect(JSON.stringify(results)).not.toContain('not-a-token')
  })

  it('is any host over HTTPS: an ordinary branch is pushed and deleted', async () => {
    const { server, privateKey } = clinic.storage
    const minter = new TokenMinter({ org: 'acme', privateKey })
    const token = async (id: string) => ({ username: 't', token: (await minter.mint({ repository: id, scopes: ['git:write'] })).token })
    const results = await clinic.doctor({ ...only('local'), git: { type: 'https', url: server.url, token } })
    expect(outcomes(results, 'local')).toMatchObject({ clone: 'ok', push: 'ok', 'delete branch': 'ok' })
    const without = await clinic.doctor({ ...only('local'), git: { type: 'https', url: server.url, token } }, { repository: undefined })
    expect(check(without, 'git', 'host')).toMatchObject({ outcome: 'warning', detail: expect.stringContaining('only that the host answers') as string })
    await nothingLeft()
  })
})

describe('a Redis that is not well', () => {
  it('is not there, or is something else', async () => {
    const results = await clinic.doctor({ ...only('local'), redis: { url: 'redis://:secret-password@127.0.0.1:1' } }, { repository: undefined })
    expect(outcomes(results, 'redis')).toEqual({ connect: 'failed', version: 'skipped', eviction: 'skipped', write: 'skipped', rights: 'skipped' })
    expect(check(results, 'redis', 'connect').mend).toContain('redis.url')
    expect(JSON.stringify(results)).not.toContain('secret-password')
    // Takes connections and never says a word.
    const sockets: Socket[] = []
    const silent = createServer((socket) => sockets.push(socket)).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { port } = silent.address() as { port: number }
    const other = await clinic.doctor({ ...only('local'), redis: { url: `redis://127.0.0.1:${port}` } }, { repository: undefined })
    expect(check(other, 'redis', 'connect').outcome).toBe('failed')
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => silent.close(resolve))
  })

  it('drops keys', async () => {
    const redis = new Redis(clinic.redis.url)
    await redis.config('SET', 'maxmemory-policy', 'allkeys-lru')
    try {
      const results = await clinic.doctor(only('local'), { repository: undefined })
      expect(check(results, 'redis', 'eviction')).toMatchObject({ outcome: 'failed', errorKind: 'invalid', detail: expect.stringContaining('allkeys-lru') as string, mend: expect.stringContaining('noeviction') as string })
      expect(exitCodeOf(results, false)).toBe(2)
    } finally {
      await redis.config('SET', 'maxmemory-policy', 'noeviction')
      await redis.quit()
    }
  })
})

describe('the command', () => {
  it('prints a row for each check, or JSON, and exits as the rest does', async () => {
    const place = await makePlace()
    try {
      await writeFile(join(place.folder, 'switchyard.config.json'), JSON.stringify(only('local', 'e2b')))
      const run = place.run(['doctor', '-r', repository, '-p', 'e2b'], clinic.environment)
      const code = await run.ended
      expect(code, run.stdout() + run.stderr()).toBe(0)
      expect(run.stdout()).toMatch(/^SUBJECT +CHECK +RESULT +TIME$/m)
      expect(run.stdout()).toMatch(/^e2b +push +ok +\d+(ms|(\.\d)?s) +doctor\/\w+-e2b at [0-9a-f]{12}$/m)
      expect(run.stdout()).toMatch(/\d+ checks passed, none failed\n$/)
      const json = await place.command(['doctor', '--json'], { ...clinic.environment, E2B_API_KEY: 'e2b_wrong_key' })
      expect(json.code).toBe(3)
      const { ok, checks } = JSON.parse(json.stdout) as { ok: boolean; checks: CheckResult[] }
      expect(ok).toBe(false)
      expect(check(checks, 'e2b', 'credentials')).toMatchObject({ outcome: 'failed', errorKind: 'auth' })
      expect(json.stdout + json.stderr).not.toContain('wrong_key')
      const wrong = await place.command(['doctor', '--timeout', '5'], clinic.environment)
      expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('--timeout: "5" is not a duration')])
      await nothingLeft()
    } finally {
      await place.remove()
    }
  })

  it.each([
    ['while a command runs in the sandbox', { call: 'start', action: 'hang', times: 0 }],
    ['while the create is not answered', { call: 'create', action: 'late-answer', delayMs: 600_000 }],
  ] as const)('leaves nothing when it is interrupted %s', async (_when, fault) => {
    const place = await makePlace()
    try {
      await writeFile(join(place.folder, 'switchyard.config.json'), JSON.stringify(only('e2b')))
      clinic.e2b.faults.add(fault)
      const run = place.run(['doctor', '-r', repository, '--json'], clinic.environment)
      await expect.poll(() => clinic.living()['e2b']).toBe(1)
      run.child.kill('SIGINT')
      expect(await run.ended, run.stderr()).toBe(130)
      const { checks } = JSON.parse(run.stdout()) as { checks: CheckResult[] }
      expect(checks.some(({ outcome }) => outcome === 'interrupted')).toBe(true)
      expect(check(checks, 'e2b', 'kill').outcome).toBe('ok')
      await nothingLeft()
    } finally {
      await place.remove()
    }
  })
})

describe('cleaning up', () => {
  const sandbox: SandboxInfo = { id: 'one', name: undefined, tags: {}, createdAtMs: undefined, expiresAtMs: undefined }
  const pause = () => Promise.resolve()
  /** A provider of which only these methods are called. */
  const provider = (methods: Partial<Provider>) => ({ name: 'test', ...methods }) as Provider
  const transient = () => Promise.reject(new InfrastructureError({ kind: 'transient', source: 'test', message: 'test: no' }))

  it('believes a kill only when the provider has no such sandbox any more', async () => {
    let kills = 0
    const deaf = provider({ kill: async () => void (kills += 1), get: async () => sandbox })
    await expect(killForSure(deaf, 'one', { timeoutMs: 1, pause })).rejects.toThrow('sandbox one may still live: test: the kill was accepted, but the sandbox still lives')
    expect(kills).toBe(3)
    let tries = 0
    const slow = provider({ kill: () => ((tries += 1) < 3 ? transient() : Promise.resolve()), get: async () => undefined })
    await killForSure(slow, 'one', { timeoutMs: 1, pause })
    expect(tries).toBe(3)
  })

  it('looks again for what a listing does not show yet, and says when it can’t look', async () => {
    let looks = 0
    const late = provider({
      list: async function* list() {
        looks += 1
        if (looks === 3) yield sandbox
      },
      kill: () => Promise.resolve(),
      get: async () => undefined,
    })
    expect(await killUnanswered(late, { job: 'doctor' }, { timeoutMs: 1, pause })).toEqual(['one'])
    const down = provider({
      list: async function* list() {
        await transient()
      },
    })
    await expect(killUnanswered(down, { job: 'doctor' }, { timeoutMs: 1, pause })).rejects.toThrow("whether the create made a sandbox can't be found out: test: no; its tags would be job=doctor")
  })
})

describe('the report', () => {
  const row: CheckResult = { subject: 'provider', name: 'e2b', check: 'create', outcome: 'ok', durationMs: 1234, detail: 'i123', mend: null, errorKind: null }
  const failed: CheckResult = { ...row, check: 'exec', outcome: 'failed', durationMs: 45, detail: 'it broke', mend: 'mend it', errorKind: 'transient' }

  it('has a row for each check, and the mend of a failed one below it', () => {
    expect(rows(['e2b'], [row, failed, { ...row, check: 'push', outcome: 'skipped', durationMs: 0, detail: 'exec failed' }]).split('\n')).toEqual([
      'e2b      create         ok             1.2s  i123',
      'e2b      exec           FAILED         45ms  it broke',
      '                                             mend: mend it',
      'e2b      push           skipped           -  exec failed',
    ])
    expect(summary([row, failed])).toBe('1 check passed, 1 failed')
  })

  it('gives the exit code', () => {
    expect(exitCodeOf([row], false)).toBe(0)
    expect(exitCodeOf([row, failed], false)).toBe(3)
    expect(exitCodeOf([row, { ...failed, errorKind: 'invalid' }], false)).toBe(2)
    expect(exitCodeOf([{ ...failed, errorKind: 'internal' }], false)).toBe(70)
    expect(exitCodeOf([row], true)).toBe(130)
  })

  it('has a mend of one sentence for every failure that there can be', () => {
    const subjects = [
      { subject: { kind: 'redis', name: 'redis' }, checks: ['connect', 'version', 'eviction', 'write', 'rights'] },
      { subject: { kind: 'git', name: 'git' }, checks: ['host', 'repository'] },
      ...['e2b', 'local', 'docker'].map((type) => ({ subject: { kind: 'provider', name: type, type }, checks: [...providerChecks, 'configuration'] }) as const),
    ] as const
    for (const { subject, checks } of subjects) {
      for (const what of checks) {
        for (const kind of [...infrastructureErrorKinds, 'internal'] as const) expect(mendOf(subject, what, kind), `${subject.kind} ${what} ${kind}`).toMatch(/^\S[^\n]{10,}[^.]$/)
        // Nobody is sent to a console that there is none of.
        if (['local', 'docker'].includes(subject.name)) for (const kind of infrastructureErrorKinds) expect(mendOf(subject, what, kind), `${subject.name} ${what} ${kind}`).not.toMatch(/console|status page|account|plan|template/)
      }
    }
  })
})
