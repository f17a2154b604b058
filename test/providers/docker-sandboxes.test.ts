import { execFile, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { createBody } from '../../src/providers/docker/container.js'
import { dockerProviderConfigSchema } from '../../src/providers/docker/index.js'
import type { SandboxInfo, SandboxRequest } from '../../src/providers/provider.js'
import { loaderArgs, ownFile } from '../own-programs.js'
import { engineCall, podmanUnavailable } from '../servers/podman.js'
import { options, startDocker, type DockerFixture } from './docker-fixture.js'
import { all, countProcesses, failure } from './e2b-fixture.js'

/** A consumer of its own: makes a container with a short lifetime, starts what a hostile job does there, and waits. */
const program = `
import { DockerProvider, dockerProviderConfigSchema } from ${JSON.stringify(ownFile('src/providers/docker/index.ts'))}
const provider = new DockerProvider(dockerProviderConfigSchema.parse({ socketPath: process.env.SOCKET, image: process.env.IMAGE, network: 'host' }), {})
const options = { timeoutMs: 30_000 }
const { id } = await provider.create({ name: 'docker-test-deadline', tags: {}, image: undefined, resources: {}, lifetimeMs: 6_000, network: 'open', gitHosts: [] }, options)
provider.exec(id, { script: process.env.SCRIPT }, { timeoutMs: 600_000 }).catch(() => undefined)
console.log(id)
setInterval(() => undefined, 1000)
`

const unavailable = await podmanUnavailable()

describe.skipIf(unavailable !== undefined)(`containers of a real engine${unavailable === undefined ? '' : `: ${unavailable}`}`, { timeout: 60_000 }, () => {
  let fixture: DockerFixture
  beforeAll(async () => {
    fixture = await startDocker()
  }, 60_000)
  afterAll(() => fixture.close(), 60_000)

  const makeContainer = (name: string, body: Record<string, unknown>) =>
    engineCall(fixture.engine.socketPath, 'POST', `/containers/create?name=${name}`, JSON.stringify(body))

  it('end with their lifetime, and take a running command along as a lost sandbox', async () => {
    const { id } = await fixture.provider.create(fixture.request({ lifetimeMs: 2_000 }), options)
    expect(await failure(fixture.provider.exec(id, { script: 'sleep 60' }, options))).toMatchObject({ kind: 'sandbox-lost' })
    expect(await fixture.provider.get(id, options)).toBeUndefined()
  })

  it('let no program gain privileges, unless the configuration says so', async () => {
    const seen = async (provider: DockerFixture['provider']) => {
      const { id } = await provider.create(fixture.request(), options)
      const { stdout } = await provider.exec(id, { script: 'grep NoNewPrivs /proc/self/status' }, options)
      await provider.kill(id, options)
      return stdout.trim().split(/\s+/).at(-1)
    }
    expect(await seen(fixture.provider)).toBe('1')
    expect(await seen(fixture.another({ newPrivileges: true }))).toBe('0')
  })

  it('live on when they are extended, and a shorter lifetime shortens nothing', async () => {
    const request = fixture.request({ lifetimeMs: 4_000 })
    const [short, long] = await Promise.all([fixture.provider.create(fixture.request({ lifetimeMs: 4_000 }), options), fixture.provider.create(request, options)])
    await fixture.provider.extend(long.id, 300_000, options)
    await fixture.provider.extend(long.id, 1_000, options)
    await vi.waitFor(async () => expect(await fixture.provider.get(short.id, options)).toBeUndefined(), { timeout: 20_000, interval: 200 })
    expect(await fixture.provider.exec(long.id, { script: 'echo alive' }, options)).toEqual({ exitCode: 0, stdout: 'alive\n' })
    await fixture.provider.kill(long.id, options)
  })

  /** Writes another deadline, and stops and kills all that may be there to keep it. */
  const worst = `for file in /dev/shm/.switchyard-deadline /dev/shm/.switchyard-deadline.new; do echo "9999999999 ${'0'.repeat(64)}" >"$file"; done
for stat in /proc/[0-9]*; do pid=\${stat#/proc/}; [ "$pid" = "$$" ] || { kill -STOP "$pid"; [ "$pid" = 1 ] || kill -KILL "$pid"; kill -STOP "$pid"; }; done 2>/dev/null; sleep 1000`

  it('end at their deadline whatever runs in them, from outside, also when their consumer is gone', async () => {
    const consumer = spawn(process.execPath, [...loaderArgs, '--input-type=module', '-e', program], { env: { ...process.env, SOCKET: fixture.engine.socketPath, IMAGE: fixture.engine.image, SCRIPT: worst }, stdio: ['ignore', 'pipe', 'inherit'] })
    const [line] = (await once(consumer.stdout, 'data')) as [Buffer]
    const id = line.toString().trim()
    expect(await fixture.provider.get(id, options)).toMatchObject({ id })
    consumer.kill('SIGKILL')
    await vi.waitFor(async () => expect(await fixture.provider.get(id, options)).toBeUndefined(), { timeout: 40_000, interval: 200 })
  })

  it('keep the engine from nothing that concerns others when they stop whatever it starts in them', { timeout: 150_000 }, async () => {
    const [bad, good] = await Promise.all([fixture.provider.create(fixture.request(), options), fixture.provider.create(fixture.request(), options)])
    const mark = randomUUID()
    const stopper = `setsid sh -c 'while :; do for stat in /proc/[0-9]*; do pid=\${stat#/proc/}; [ "$pid" = 1 ] || [ "$pid" = $$ ] || kill -STOP "$pid"; done; done' ${mark} >/dev/null 2>&1 </dev/null &`
    await fixture.provider.exec(bad.id, { script: stopper }, { timeoutMs: 3_000 }).catch(() => undefined)
    // Podman by itself answers neither a listing nor a look at this container for four minutes.
    for (let round = 0; round < 2; round++) {
      const calls = [1, 2].map(() => fixture.provider.exec(bad.id, { script: 'echo here' }, { timeoutMs: 25_000 }).catch(() => undefined))
      await new Promise((resolve) => setTimeout(resolve, 300))
      const [listed, said] = await Promise.all([all(fixture.provider.list({}, options)), fixture.provider.exec(good.id, { script: 'echo fine' }, options)])
      expect(listed.map(({ id }) => id)).toEqual(expect.arrayContaining([good.id]))
      expect(said.stdout).toBe('fine\n')
      await Promise.all(calls)
    }
    await fixture.provider.kill(bad.id, options)
    expect(await countProcesses(mark)).toBe(0)
    expect((await all(fixture.provider.list({}, options))).map(({ id }) => id)).toEqual([good.id])
    await fixture.provider.kill(good.id, options)
    // What freed the engine is gone as well.
    await vi.waitFor(async () => expect(JSON.parse(await engineCall(fixture.engine.socketPath, 'GET', '/containers/json?all=true&filters=%7B%22label%22%3A%5B%22dev.switchyard.frees%22%5D%7D'))).toEqual([]), { timeout: 30_000, interval: 200 })
  })

  it('live as long as a consumer extends them, by its signature alone', async () => {
    const [honest, forged] = await Promise.all([10_000, 10_000].map((lifetimeMs) => fixture.provider.create(fixture.request({ lifetimeMs }), options))) as [SandboxInfo, SandboxInfo]
    // Another consumer's, that knows of them by the record alone.
    await fixture.another().extend(honest.id, 600_000, options)
    const { stdout } = await fixture.provider.exec(honest.id, { script: 'cat /dev/shm/.switchyard-deadline' }, options)
    // Signed for another container.
    await fixture.provider.exec(forged.id, { script: `echo '${stdout.trim()}' >/dev/shm/.switchyard-deadline` }, options)
    await vi.waitFor(async () => expect(await fixture.provider.get(forged.id, options)).toBeUndefined(), { timeout: 40_000, interval: 200 })
    expect((await fixture.provider.exec(honest.id, { script: 'echo alive' }, options)).stdout).toBe('alive\n')
    await fixture.provider.kill(honest.id, options)
  })

  it('are found when a create was lost between making and starting one', async () => {
    const request = fixture.request()
    const config = dockerProviderConfigSchema.parse({ image: fixture.engine.image, network: 'host' })
    const made = JSON.parse(await makeContainer(request.name, createBody(config, request, { nowMs: Date.now(), key: 'k' }))) as { Id: string }
    expect((await all(fixture.provider.list(request.tags, options))).map(({ id }) => id)).toEqual([made.Id])
    const found = await fixture.provider.create(request, options)
    expect(found.id).toBe(made.Id)
    expect((await fixture.provider.exec(found.id, { script: 'echo runs' }, options)).stdout).toBe('runs\n')
    await fixture.provider.kill(found.id, options)
  })

  it.each(['made long ago and never started', 'ended and never removed'])('of a name whose container was %s are made anew, and that one is seen until then', async (what) => {
    const request = fixture.request()
    const config = dockerProviderConfigSchema.parse({ image: fixture.engine.image, network: 'host' })
    const body = createBody(config, request, { nowMs: Date.now() - 3_600_000, key: 'k' })
    const ended = what.startsWith('ended')
    const left = JSON.parse(await makeContainer(request.name, ended ? { ...body, HostConfig: { ...(body['HostConfig'] as object), AutoRemove: false } } : body)) as { Id: string }
    if (ended) {
      await engineCall(fixture.engine.socketPath, 'POST', `/containers/${left.Id}/start`)
      await vi.waitFor(async () => expect(await fixture.provider.get(left.Id, options)).toBeUndefined(), { interval: 20 })
    }
    expect((await all(fixture.provider.list(request.tags, options))).map(({ id }) => id)).toEqual([left.Id])
    const made = await fixture.provider.create(request, options)
    expect(made.id).not.toBe(left.Id)
    expect((await fixture.provider.exec(made.id, { script: 'echo runs' }, options)).stdout).toBe('runs\n')
    expect((await all(fixture.provider.list(request.tags, options))).map(({ id }) => id)).toEqual([made.id])
    await fixture.provider.kill(made.id, options)
  })

  it('of somebody else are neither taken nor listed nor seen', async () => {
    const { provider } = fixture
    const foreign = JSON.parse(await makeContainer('somebody-else', { Image: fixture.engine.image, Cmd: ['sleep', '1000'] })) as { Id: string }
    const error = await failure(provider.create(fixture.request({ name: 'somebody-else' }), options))
    expect(error).toMatchObject({ kind: 'invalid' })
    expect(error.message).toContain('"somebody-else"')
    const other = fixture.another({ name: 'second' })
    const { id } = await other.create(fixture.request(), options)
    expect((await all(provider.list({}, options))).map((sandbox) => sandbox.id)).toEqual([])
    expect(await provider.get(foreign.Id, options)).toBeUndefined()
    expect((await all(other.list({}, options))).map((sandbox) => sandbox.id)).toEqual([id])
    await other.kill(id, options)
  })

  it('need an image that is there and has a shell', async () => {
    const error = await failure(fixture.provider.create(fixture.request({ image: 'no-such-image:1' }), options))
    expect(error).toMatchObject({ kind: 'invalid' })
    expect(error.message).toContain('pull or build it there')
    const unchecked = await failure(fixture.another({ image: 'no-such-image:1' }).check(options))
    expect(unchecked).toMatchObject({ kind: 'invalid' })
    expect(unchecked.message).toContain('"no-such-image:1"')
    const { stdout: empty } = await promisify(execFile)('tar', ['-C', '/etc', '-c', 'hostname'], { encoding: 'buffer' })
    const imported = /sha256:[0-9a-f]{64}/.exec(await engineCall(fixture.engine.socketPath, 'POST', '/images/create?fromSrc=-&repo=empty', empty))?.[0]
    const request = fixture.request({ image: imported })
    await failure(fixture.provider.create(request, options))
    expect(await all(fixture.provider.list(request.tags, options)), 'a container that never started is left').toEqual([])
  })

  it('have a network or none; what an engine can’t do is refused before anything is made', async () => {
    const { provider } = fixture
    const { id } = await provider.create(fixture.request({ network: 'none' }), options)
    const { stdout } = await provider.exec(id, { script: "sed -n 's/^ *\\([^ :]*\\):.*/\\1/p' /proc/net/dev" }, options)
    expect(stdout).toBe('lo\n')
    await provider.kill(id, options)
    for (const changes of [{ network: 'git-only' }, { network: ['example.com'] }, { resources: { diskMiB: 10 } }] satisfies Partial<SandboxRequest>[]) {
      expect(await failure(provider.create(fixture.request(changes), options))).toMatchObject({ kind: 'invalid' })
      expect(provider.refusal({ ...fixture.request(changes) })).toMatch(/^docker.*: create: (network|resources)/)
    }
    expect(provider.refusal(fixture.request({ network: 'none', resources: { cpu: 0.5 } }))).toBeUndefined()
    const small = fixture.another({ cpu: 1, memoryMiB: 64 })
    for (const resources of [{ cpu: 2 }, { memoryMiB: 65 }]) {
      expect(await failure(small.create(fixture.request({ resources }), options))).toMatchObject({ kind: 'invalid' })
    }
  })

  it('get the resources that the job asks for', async () => {
    const { id } = await fixture.provider.create(fixture.request({ resources: { cpu: 0.5, memoryMiB: 64 } }), options)
    const { HostConfig } = JSON.parse(await engineCall(fixture.engine.socketPath, 'GET', `/containers/${id}/json`)) as { HostConfig: { Memory: number; NanoCpus: number; CpuQuota: number; CpuPeriod: number; PidsLimit: number } }
    expect(HostConfig).toMatchObject({ Memory: 64 * 1024 * 1024, PidsLimit: 4096 })
    // Podman tells it as a share of a period.
    expect(HostConfig.NanoCpus / 1e9 || HostConfig.CpuQuota / HostConfig.CpuPeriod).toBe(0.5)
    // Over the limit the command is killed, not the sandbox.
    const { exitCode } = await fixture.provider.exec(id, { script: 'dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null' }, options)
    expect(exitCode).not.toBe(0)
    expect((await fixture.provider.exec(id, { script: 'echo alive' }, options)).stdout).toBe('alive\n')
    await fixture.provider.kill(id, options)
  })

  it('take environment values by the socket, so that no process list of the machine shows one', async () => {
    const secret = `secret-${randomUUID()}`
    const { id } = await fixture.provider.create(fixture.request(), options)
    const running = fixture.provider.exec(id, { script: 'echo >"$HOME/started"; while [ ! -e "$HOME/go" ]; do sleep 0.1; done', env: { TOKEN: secret } }, options)
    await vi.waitFor(async () => expect((await fixture.provider.exec(id, { script: '[ -e "$HOME/started" ]' }, options)).exitCode).toBe(0), { timeout: 20_000 })
    expect(await countProcesses(secret)).toBe(0)
    await fixture.provider.exec(id, { script: ': >"$HOME/go"' }, options)
    expect((await running).exitCode).toBe(0)
    await fixture.provider.kill(id, options)
  })

  it('are checked for: the host’s network is worth a warning', async () => {
    expect(await fixture.provider.check(options)).toContainEqual(expect.stringMatching(/loopback/))
    expect(await fixture.another({ network: 'bridge' }).check(options)).not.toContainEqual(expect.stringMatching(/loopback/))
  })
})
