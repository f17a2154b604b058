import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { createProviders } from '../../src/config/providers.js'
import { InfrastructureError } from '../../src/job/errors.js'
import { sandboxTags, type Provider, type SandboxInfo } from '../../src/providers/provider.js'
import { follow, type Run } from '../cli/run-switchyard.js'
import { until } from '../e2e/deployment.js'
import { loaderArgs, ownFile } from '../own-programs.js'
import { countProcesses } from '../providers/e2b-fixture.js'
import type { FaultInput, ServerState } from './shared-faults.js'

/**
 * Each server as a program of its own, as `npm run server:e2b -- --port 8100` starts it: its provider's real SDK is told of it by
 * what it prints, and everything that its admin endpoint can do is done over HTTP.
 */
interface Case {
  readonly name: string
  /** A server with room for five sandboxes, whose lifetimes pass quickly where they are counted in minutes. */
  readonly args: readonly string[]
  /** The adapter's options, of the printed variables. */
  readonly entry: (variables: Readonly<Record<string, string>>) => Record<string, string | undefined>
  /** What the server calls the provider's `exec`. */
  readonly exec: string
  /** What the service answers while it is out of order, and what it says to who asks too much. */
  readonly broken: FaultInput
  readonly tooMany: FaultInput
  /** How long to wait; E2B's SDK keeps to itself what the service said. */
  readonly retryAfterMs: number | undefined
  /** What comes of a command whose stream is cut: Modal's SDK reads on where it stopped. */
  readonly cut: 'transient' | 'whole'
  /** How its answers can be spoiled. */
  readonly variants: readonly string[]
  /** The shortest lifetime that it gives. */
  readonly shortMs: number
}

const cases: readonly Case[] = [
  {
    name: 'e2b',
    args: ['--max-concurrent', '5'],
    entry: (variables) => ({ apiUrl: variables['E2B_API_URL'], sandboxUrl: variables['E2B_SANDBOX_URL'] }),
    exec: 'start',
    broken: { action: 'status', status: 500 },
    tooMany: { action: 'status', status: 429, message: 'Rate limit exceeded', headers: { 'Retry-After': '2' } },
    retryAfterMs: undefined,
    cut: 'transient',
    variants: ['garbage', 'no-exit-code', 'no-end-of-stream'],
    shortMs: 1_000,
  },
  {
    name: 'modal',
    args: ['--max-sandboxes', '5'],
    entry: (variables) => ({ serverUrl: variables['MODAL_SERVER_URL'] }),
    exec: 'exec',
    broken: { action: 'status', status: 13, times: 4 },
    tooMany: { action: 'status', status: 8, message: 'rate limit', headers: { 'retry-after-secs': '2' } },
    retryAfterMs: 2_000,
    cut: 'whole',
    variants: [],
    shortMs: 1_000,
  },
  {
    name: 'daytona',
    args: ['--cpu', '5', '--minute-ms', '1500'],
    entry: (variables) => ({ apiUrl: variables['DAYTONA_API_URL'] }),
    exec: 'execute',
    broken: { action: 'status', status: 500 },
    tooMany: { action: 'status', status: 429, message: 'ThrottlerException: Too Many Requests', headers: { 'Retry-After-sandbox-create': '2' } },
    retryAfterMs: 2_000,
    cut: 'transient',
    variants: ['html', 'no-exit-code'],
    shortMs: 60_000,
  },
]

const room = 5
/** A broken connection is one or the other, as the SDK tells it. */
const outOfOrder = ['transient', 'provider-down']
const soon = { timeoutMs: 20_000 }

describe.each(cases)('the server that speaks the protocol of $name', ({ name, args, entry, exec, broken, tooMany, retryAfterMs, cut, variants, shortMs }) => {
  let server: Run
  let port: number
  let variables: Record<string, string>
  let provider: Provider
  let count = 0

  beforeAll(async () => {
    vi.stubEnv('MODAL_CONFIG_PATH', '/dev/null')
    await begin()
    const [configured] = await createProviders([{ name, type: name, limit: { sandboxes: 100 }, ...entry(variables) }], { environment: variables })
    provider = configured!.provider
  })
  afterAll(async () => {
    await provider.close()
    server.child.kill('SIGTERM')
    expect(await server.ended, server.stderr()).toBe(0)
  })

  const start = (more: readonly string[]) => follow(spawn(process.execPath, [...loaderArgs, ownFile(`test/servers/${name}/main.ts`), ...more], { stdio: ['ignore', 'pipe', 'pipe'] }))
  /** Somebody else may take a port that was free a moment ago. */
  const begin = async (attempt = 1): Promise<void> => {
    port = await freePort()
    server = start(['--port', String(port), ...args])
    try {
      variables = await announced(server)
    } catch (error) {
      if (attempt === 5 || !server.stderr().includes('EADDRINUSE')) throw error
      await begin(attempt + 1)
    }
  }
  const create = (lifetimeMs = 600_000) => {
    count += 1
    const tags = sandboxTags({ deployment: 'alone', runId: `job-${count}`, attempt: 1 })
    return provider.create({ name: `alone-${count}`, tags, image: undefined, resources: {}, lifetimeMs, network: 'open', gitHosts: [] }, soon)
  }
  const withSandbox = async (work: (sandbox: SandboxInfo) => Promise<void>) => {
    const sandbox = await create()
    try {
      await work(sandbox)
    } finally {
      await admin('DELETE', 'faults')
      await provider.kill(sandbox.id, soon)
    }
  }
  const echo = ({ id }: SandboxInfo) => provider.exec(id, { script: 'echo hello' }, soon)
  const admin = async (method: string, path: string, body?: unknown) => {
    const response = await fetch(`${variables['ADMIN_URL'] ?? ''}/${path}`, { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
    return { status: response.status, body: response.status === 204 ? null : await response.json() }
  }
  const order = async (...faults: FaultInput[]) => expect((await admin('POST', 'faults', faults)).status).toBe(200)
  const state = async () => (await admin('GET', 'state')).body as ServerState & { readonly calls: Record<string, number>; readonly faults: unknown[] }
  const listed = async (tags: Readonly<Record<string, string>>) => {
    const ids: string[] = []
    for await (const { id } of provider.list(tags, soon)) ids.push(id)
    return ids
  }

  it('listens where it is told to, and is what npm starts', async () => {
    expect(Object.values(variables).some((value) => new URL(value, 'http://nowhere').port === String(port))).toBe(true)
    const { scripts } = JSON.parse(await readFile('package.json', 'utf8')) as { scripts: Record<string, string> }
    expect(scripts[`server:${name}`]).toBe(`tsx test/servers/${name}/main.ts`)
    const second = start(['--port', String(port)])
    expect(await second.ended, 'a port that is taken').not.toBe(0)
  })

  it('runs many sandboxes at once, and refuses more than there is room for, in words that are told from other refusals', async () => {
    const before = await state()
    const made = await Promise.all(Array.from({ length: room }, () => create()))
    try {
      expect((await Promise.all(made.map(echo))).map(({ stdout }) => stdout)).toEqual(made.map(() => 'hello\n'))
      expect(await failureOf(create())).toMatchObject({ kind: 'capacity' })
      expect((await listed({ 'switchyard-deployment': 'alone' })).sort()).toEqual(made.map(({ id }) => id).sort())
      expect(await state()).toMatchObject({ live: room, maxLive: room, created: before.created + room })
    } finally {
      await Promise.all(made.map(({ id }) => provider.kill(id, soon)))
    }
    expect(await state()).toMatchObject({ live: 0, ended: { killed: before.ended.killed + room } })
  })

  it('lets a lifetime expire', async () => {
    const before = await state()
    const { id } = await create(shortMs)
    await until('the sandbox to end', async () => (await provider.get(id, soon)) === undefined)
    await until('it to be counted', async () => (await state()).ended.expired === before.ended.expired + 1)
  })

  it('refuses orders that it does not understand', async () => {
    expect((await admin('POST', 'faults', { call: 'get', action: 'nonsense' })).status).toBe(400)
    expect((await admin('PUT', 'mode', { down: 'sideways' })).status).toBe(400)
    expect((await admin('DELETE', 'sandboxes/nobody')).status).toBe(404)
  })

  it('breaks, holds up, delays and fails a call, and lets the next one through', async () => {
    await withSandbox(async (sandbox) => {
      // As often as the SDK itself tries again.
      await order({ call: 'get', action: 'refuse', times: 4 })
      expect(outOfOrder).toContain((await failureOf(provider.get(sandbox.id, soon))).kind)
      await admin('DELETE', 'faults')
      await order({ call: 'get', action: 'hang' })
      expect(await failureOf(provider.get(sandbox.id, { timeoutMs: 1_000 }))).toMatchObject({ kind: 'timeout' })
      await order({ call: 'get', action: 'delay', delayMs: 100 })
      expect((await provider.get(sandbox.id, soon))?.id).toBe(sandbox.id)
      await order({ ...broken, call: 'get' })
      expect(outOfOrder).toContain((await failureOf(provider.get(sandbox.id, soon))).kind)
      expect((await provider.get(sandbox.id, soon))?.id).toBe(sandbox.id)
      expect((await state()).faults).toEqual([])
    })
  })

  it('says that it is asked too much, and for how long', async () => {
    await order({ ...tooMany, call: 'create' })
    expect(await failureOf(create())).toMatchObject({ kind: 'rate-limited', retryAfterMs })
    expect((await state()).live).toBe(0)
  })

  it('loses the answer of a create, or gives it late, after it was done', async () => {
    for (const fault of [{ action: 'lose-answer' }, { action: 'late-answer', delayMs: 200 }] as const) {
      const { created } = await state()
      await order({ ...fault, call: 'create' })
      const sandbox = await create()
      expect((await echo(sandbox)).stdout).toBe('hello\n')
      expect(await state()).toMatchObject({ created: created + 1, live: 1 })
      await provider.kill(sandbox.id, soon)
    }
  })

  it('cuts and spoils what a command says', async () => {
    await withSandbox(async (sandbox) => {
      await order({ call: name === 'modal' ? 'read' : exec, action: 'cut-stream', afterBytes: 3 })
      if (cut === 'whole') expect((await echo(sandbox)).stdout).toBe('hello\n')
      else expect(await failureOf(echo(sandbox))).toMatchObject({ kind: 'transient' })
      for (const variant of variants) {
        await order({ call: exec, action: 'corrupt', variant })
        expect(await failureOf(echo(sandbox)), variant).toMatchObject({ kind: 'transient' })
      }
      expect((await echo(sandbox)).stdout).toBe('hello\n')
    })
  })

  it('has a sandbox die with a call, and on order', async () => {
    const { ended } = await state()
    const first = await create()
    await order({ call: exec, action: 'kill-sandbox' })
    expect(await failureOf(echo(first))).toMatchObject({ kind: 'sandbox-lost' })
    const second = await create()
    const calls = (await state()).calls[exec] ?? 0
    // Modal's SDK waits for a dead worker; three quarters of the time later the adapter asks after the sandbox.
    const running = failureOf(provider.exec(second.id, { script: 'sleep 300' }, { timeoutMs: 8_000 }))
    await until('the command to run', async () => ((await state()).calls[exec] ?? 0) > calls)
    expect((await admin('DELETE', `sandboxes/${second.id}`)).status).toBe(204)
    // Whichever the command's end and the listing tell first; the next call knows.
    expect(['transient', 'sandbox-lost']).toContain((await running).kind)
    expect(await failureOf(echo(second))).toMatchObject({ kind: 'sandbox-lost' })
    expect((await state()).ended.crashed).toBe(ended.crashed + 2)
  })

  it('goes down as a whole, comes up again, and its sandboxes are still there', async () => {
    await withSandbox(async (sandbox) => {
      await admin('PUT', 'mode', { down: 'hang' })
      expect(await failureOf(provider.get(sandbox.id, { timeoutMs: 1_000 }))).toMatchObject({ kind: 'timeout' })
      await admin('PUT', 'mode', { down: 'refuse' })
      for (const call of [() => provider.get(sandbox.id, soon), () => echo(sandbox), () => create(), () => listed({})]) {
        expect(outOfOrder).toContain((await failureOf(call())).kind)
      }
      await admin('PUT', 'mode', { down: 'up' })
      // An SDK that lost its connection may take a moment to try again.
      const reached = async () => (await provider.get(sandbox.id, soon))?.id === sandbox.id && (await echo(sandbox)).stdout === 'hello\n'
      await until('it to be reached again', () => reached().catch(() => false))
    })
  })

  it('lists what was there a while ago', async () => {
    const { id } = await create()
    const tags = { 'switchyard-deployment': 'alone' }
    expect(await listed(tags)).toEqual([id])
    await admin('PUT', 'mode', { listDelayMs: 60_000 })
    expect(await listed(tags)).not.toContain(id)
    await admin('PUT', 'mode', { listDelayMs: 0 })
    expect(await listed(tags)).toEqual([id])
    await provider.kill(id, soon)
  })

  it('ends its sandboxes with itself', async () => {
    const other = start(args)
    const own = await announced(other)
    const [configured] = await createProviders([{ name, type: name, limit: { sandboxes: 1 }, ...entry(own) }], { environment: own })
    const { id } = await configured!.provider.create({ name: 'last', tags: {}, image: undefined, resources: {}, lifetimeMs: 600_000, network: 'open', gitHosts: [] }, soon)
    const marker = `9${randomInt(1_000_000_000)}`
    await configured!.provider.exec(id, { script: `(exec sleep ${marker}) </dev/null >/dev/null 2>&1 &` }, soon)
    await until('the command to run', async () => (await countProcesses(marker)) === 1)
    other.child.kill('SIGTERM')
    expect(await other.ended, other.stderr()).toBe(0)
    expect(await countProcesses(marker)).toBe(0)
    await configured!.provider.close()
  })
})

/** What a server prints: NAME=value lines, the last one ADMIN_URL. */
async function announced(server: Run): Promise<Record<string, string>> {
  await server.saw(/^ADMIN_URL=\S+\n/m)
  return Object.fromEntries([...server.stdout().matchAll(/^([A-Z0-9_]+)=(\S+)$/gm)].map(([, key = '', value = '']) => [key, value]))
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}

async function failureOf(call: Promise<unknown>): Promise<InfrastructureError> {
  const outcome = await call.then((value) => ({ value }), (error: unknown) => error)
  if (outcome instanceof InfrastructureError) return outcome
  throw new Error('the call did not fail as an adapter should', { cause: outcome })
}
