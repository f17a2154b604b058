import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Redis } from 'ioredis'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { type EmbeddedRedis, type EmbeddedRedisOptions, startRedis } from '../../src/embedded/index.js'
import { loaderArgs, ownFile } from '../own-programs.js'
import { processes } from '../processes.js'

const undo: (() => unknown)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

async function start(options: EmbeddedRedisOptions = {}): Promise<EmbeddedRedis> {
  const redis = await startRedis(options)
  undo.push(() => redis.close())
  return redis
}

function connect(redis: EmbeddedRedis, options: { commandTimeout?: number } = {}): Redis {
  const client = new Redis({ ...redis.connection, ...options, retryStrategy: () => 20 })
  client.on('error', () => undefined)
  undo.push(() => client.disconnect())
  return client
}

async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-test-'))
  undo.push(() => rm(folder, { recursive: true, force: true, maxRetries: 10 }))
  return folder
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

describe('the private Redis server', () => {
  it('answers at its URL, evicts nothing and takes no snapshots', async () => {
    const redis = await start()
    const client = new Redis(redis.url)
    undo.push(() => client.disconnect())
    expect(await client.set('a', '1')).toBe('OK')
    expect(await client.config('GET', 'maxmemory-policy')).toEqual(['maxmemory-policy', 'noeviction'])
    expect(await client.config('GET', 'save')).toEqual(['save', ''])
    expect(await client.config('GET', 'bind')).toEqual(['bind', '127.0.0.1'])
  })

  it('lets nobody in without its password, which is not in its arguments', async () => {
    const redis = await start()
    const stranger = new Redis({ host: '127.0.0.1', port: redis.port!, enableReadyCheck: false })
    stranger.on('error', () => undefined)
    undo.push(() => stranger.disconnect())
    await expect(stranger.get('a')).rejects.toThrow(/NOAUTH/)
    const listing = await processes('args')
    expect(listing.filter((line) => line.includes('redis'))).not.toEqual([])
    expect(listing.filter((line) => line.includes(redis.connection.password))).toEqual([])
  })

  it('listens on a UNIX socket', async () => {
    const redis = await start({ socket: true })
    expect(redis.port).toBeUndefined()
    expect(existsSync(redis.socketPath!)).toBe(true)
    expect(await connect(redis).ping()).toBe('PONG')
    const byUrl = new Redis(redis.url, { password: redis.connection.password })
    undo.push(() => byUrl.disconnect())
    expect(await byUrl.ping()).toBe('PONG')
  })

  it('is gone after close, with its folder', async () => {
    const redis = await start()
    const pid = redis.pid!
    await redis.close()
    await redis.close()
    expect(alive(pid)).toBe(false)
    expect(existsSync(redis.dataDir)).toBe(false)
  })

  it('keeps what was written to a data folder past a SIGKILL and past close', async () => {
    const dataDir = await temporaryFolder()
    const first = await start({ dataDir })
    const client = connect(first)
    await client.set('kept', 'yes')
    await first.kill('SIGKILL')
    expect(first.pid).toBeUndefined()
    await first.restart()
    expect(await client.get('kept')).toBe('yes')
    await client.set('kept', 'still')
    client.disconnect()
    await first.close()
    const second = await start({ dataDir })
    expect(await connect(second).get('kept')).toBe('still')
  })

  it('restarts at the same address with the same password, empty when nothing is on disk', async () => {
    const redis = await start()
    const client = connect(redis)
    await client.set('a', '1')
    const { url, pid } = redis
    await redis.restart()
    expect(redis.url).toBe(url)
    expect(redis.pid).not.toBe(pid)
    expect(await client.get('a')).toBeNull()
  })

  it('freezes with its connections open, and thaws', async () => {
    const redis = await start()
    const client = connect(redis, { commandTimeout: 300 })
    await client.ping()
    redis.freeze()
    await expect(client.ping()).rejects.toThrow(/timed out/i)
    redis.thaw()
    expect(await connect(redis).ping()).toBe('PONG')
    redis.freeze()
    await redis.restart()
    expect(await connect(redis).ping()).toBe('PONG')
  })

  it('says so when its port is taken', async () => {
    const taken = createServer((socket) => void socket.destroy())
    await once(taken.listen(0, '127.0.0.1'), 'listening')
    undo.push(async () => {
      await new Promise((closed) => taken.close(closed))
    })
    const address = taken.address()
    if (address === null || typeof address === 'string') throw new Error('no port')
    await expect(startRedis({ port: address.port })).rejects.toThrow(/exited at its start.*Address already in use/i)
  })

  it('does not take another server on its port for itself', async () => {
    const other = await start()
    await expect(startRedis({ port: other.port, password: other.connection.password })).rejects.toThrow(/Address already in use/i)
  })

  it('says what to install when there is no server', async () => {
    const { PATH } = process.env
    undo.push(() => (process.env['PATH'] = PATH))
    process.env['PATH'] = await temporaryFolder()
    await expect(startRedis()).rejects.toThrow(/neither redis-server nor valkey-server is on PATH; install one/)
  })

  it.each(['SIGKILL', 'exit'] as const)('dies with the process that started it: %s', async (how) => {
    const { child, line } = await startInChild()
    undo.push(() => child.kill('SIGKILL'))
    const started = JSON.parse(line) as { pid: number; dataDir: string }
    expect(alive(started.pid)).toBe(true)
    if (how === 'SIGKILL') child.kill('SIGKILL')
    else child.stdin?.write('exit\n')
    await vi.waitFor(() => expect([alive(started.pid), existsSync(started.dataDir)]).toEqual([false, false]), { timeout: 20_000 })
  })
})

/** Another node process that starts a server, prints where, and forgets to close it. */
async function startInChild(): Promise<{ child: ChildProcess; line: string }> {
  const module = ownFile('src/embedded/redis.ts')
  const script = `
    const { startRedis } = await import(${JSON.stringify(module)})
    const redis = await startRedis()
    process.stdout.write(JSON.stringify({ pid: redis.pid, dataDir: redis.dataDir }) + '\\n')
    process.stdin.once('data', () => process.stdin.destroy())
  `
  const child = spawn(process.execPath, [...loaderArgs, '--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string]
  return { child, line }
}
