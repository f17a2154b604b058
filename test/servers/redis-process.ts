import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect, createServer, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

/** A real redis-server with a configuration of a test's own: a node of a Cluster, a replica, a sentinel, one that speaks TLS. */
export interface RedisProcess {
  readonly port: number
  readonly folder: string
  readonly pid: number | undefined
  /** Ends the process, or sends it another signal; waits until it is gone when it ends. */
  kill(signal?: NodeJS.Signals): Promise<void>
  /** Starts it again with its port and its folder. */
  start(): Promise<void>
  close(): Promise<void>
}

/** Ports on 127.0.0.1 that were free a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer()
      await once(server.listen(0, '127.0.0.1'), 'listening')
      return server
    }),
  )
  const ports = servers.map((server) => (server.address() as { port: number }).port)
  await Promise.all(servers.map((server) => new Promise((closed) => server.close(closed))))
  return ports
}

/** The server ends with whoever started it, however that dies: file descriptor 3 is a pipe that nobody else holds. */
const guard = '"$@" 3<&- & server=$!; echo $server; exec >/dev/null; (read -r _ <&3; kill -9 $server) 2>/dev/null & watcher=$!; wait $server; kill $watcher 2>/dev/null'

/** @param lines its configuration beside port and folder; they may name the port. Asked for anew where a port that was free is somebody else's by now. */
export async function startRedisProcess(lines: (port: number, folder: string) => readonly string[] | Promise<readonly string[]>, options: { readonly sentinel?: boolean } = {}): Promise<RedisProcess> {
  for (let attempt = 1; ; attempt++) {
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-server-'))
    const [port = 0] = await freePorts(1)
    const file = join(folder, 'redis.conf')
    await writeFile(file, [`port ${port}`, 'bind 127.0.0.1', `dir ${folder}`, `logfile ${join(folder, 'log')}`, 'daemonize no', ...(options.sentinel === true ? [] : ['save ""', 'maxmemory-policy noeviction']), ...(await lines(port, folder)), ''].join('\n'))
    const server = new Process(port, folder, ['redis-server', file, ...(options.sentinel === true ? ['--sentinel'] : [])])
    try {
      await server.start()
      return server
    } catch (error) {
      await server.close()
      if (attempt === 5) throw error
    }
  }
}

class Process implements RedisProcess {
  #running: { readonly pid: number; readonly gone: Promise<unknown> } | undefined

  constructor(
    readonly port: number,
    readonly folder: string,
    private readonly command: readonly string[],
  ) {}

  get pid(): number | undefined {
    return this.#running?.pid
  }

  async start(): Promise<void> {
    const child = spawn('/bin/sh', ['-c', guard, 'guard', ...this.command], { detached: true, stdio: ['ignore', 'pipe', 'ignore', 'pipe'] })
    const gone = once(child, 'exit').then(() => (this.#running = undefined))
    const [line] = (await once(child.stdout as Socket, 'data')) as [Buffer]
    this.#running = { pid: Number(line.toString()), gone }
    child.unref()
    for (const stream of child.stdio) if (stream instanceof Socket) stream.unref()
    for (let tries = 0; !(await answers(this.port)); tries++) {
      if (this.pid === undefined || tries > 600) throw new Error(`no redis-server came up in ${this.folder}`)
      await delay(25)
    }
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const running = this.#running
    if (running === undefined) return
    process.kill(running.pid, signal)
    if (signal !== 'SIGKILL' && signal !== 'SIGTERM') return
    // It holds nobody up, but for whoever waits for its end with nothing else to do.
    const waiting = setInterval(() => undefined, 60_000)
    await running.gone.finally(() => clearInterval(waiting))
  }

  async close(): Promise<void> {
    await this.kill()
    await rm(this.folder, { recursive: true, force: true, maxRetries: 10 })
  }
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    socket.write('PING\r\n')
    const [data] = (await once(socket, 'data')) as [Buffer]
    return /^[+-]/.test(data.toString())
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** Waits for a condition; fails with what it was about. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, timeoutMs = 30_000): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`)
    await delay(20)
  }
}
