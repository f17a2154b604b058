import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { access, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join, resolve } from 'node:path'
import { Redis } from 'ioredis'
import { errorMessage, SwitchyardError } from '../job/errors.js'

/**
 * A private Redis server for `switchyard dev`, the demo and the tests: for one machine, never for production.
 *
 * It is `running` → (`kill`, or its own death) → `stopped` → (`restart`) → `running`, and `close` ends it from either.
 * It listens on 127.0.0.1 or a UNIX socket only, and always asks for a password that is made up at every start: sandboxes of
 * the local provider that may use the network share this machine's loopback, and must not find an open Redis there.
 */
export interface EmbeddedRedis {
  /** What BullMQ and ioredis connect to; holds the password. A socket's is its path with the password in `connection`. */
  readonly url: string
  /** The same as ioredis options. */
  readonly connection: { readonly password: string } & ({ readonly host: string; readonly port: number } | { readonly path: string })
  /** The TCP port; undefined with a socket. */
  readonly port: number | undefined
  /** The UNIX socket's path; undefined with a port. */
  readonly socketPath: string | undefined
  /** Where the append-only file and the log are. */
  readonly dataDir: string
  /** The server's process id, undefined while it is stopped. */
  readonly pid: number | undefined
  /** Ends the server's process and waits until it is gone. Its data stay when they are on disk. `SIGKILL` if left out. */
  kill(signal?: 'SIGKILL' | 'SIGTERM'): Promise<void>
  /** Stops the server if it runs, and starts it again at the same address with the same password. */
  restart(): Promise<void>
  /** Stops the process as by SIGSTOP: connections stay open and nothing answers. */
  freeze(): void
  /** Lets a frozen server go on. */
  thaw(): void
  /** Kills the server and removes what it wrote, except a `dataDir` that was given. Again is fine. */
  close(): Promise<void>
}

export interface EmbeddedRedisOptions {
  /** Keeps the data here, and with it the server's state past `close`. A new temporary folder if left out. */
  readonly dataDir?: string | undefined
  /** Writes an append-only file, synced every second. Default: only when `dataDir` is given. */
  readonly appendOnly?: boolean | undefined
  /** The port on 127.0.0.1; a free one if left out. */
  readonly port?: number | undefined
  /** Listens on a UNIX socket at this path instead, or at a path in its folder with `true`. */
  readonly socket?: string | true | undefined
  /** The password; a random one if left out. */
  readonly password?: string | undefined
  /** How long the server may take until it answers, in milliseconds. Default 15,000. */
  readonly startTimeoutMs?: number | undefined
}

/** Thrown when the server can't be found or started. The message says what to install or what the server said. */
export class EmbeddedRedisError extends SwitchyardError {
  override readonly name = 'EmbeddedRedisError'
  override readonly code = 'SWY_EMBEDDED_REDIS'
}

/**
 * Starts the server and returns once it answers.
 * @throws EmbeddedRedisError when neither redis-server nor valkey-server is on PATH, or when it does not start.
 */
export async function startRedis(options: EmbeddedRedisOptions = {}): Promise<EmbeddedRedis> {
  const program = await findServer(process.env['PATH'] ?? '')
  const temporary = options.dataDir === undefined ? await mkdtemp(join(tmpdir(), 'switchyard-redis-')) : undefined
  const dataDir = temporary ?? resolve(options.dataDir ?? '')
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  const server = new Server(program, dataDir, temporary !== undefined, options)
  try {
    await server.restart()
  } catch (error) {
    await server.close()
    throw error
  }
  return server
}

/** @returns the first of redis-server and valkey-server on `path`. */
async function findServer(path: string): Promise<string> {
  for (const name of ['redis-server', 'valkey-server']) {
    for (const folder of path.split(delimiter).filter((part) => part !== '')) {
      const file = join(folder, name)
      if (await access(file, constants.X_OK).then(() => true, () => false)) return file
    }
  }
  throw new EmbeddedRedisError(
    'neither redis-server nor valkey-server is on PATH; install one (apt-get install redis-server, brew install redis) or give the URL of a running one',
  )
}

/**
 * $1: the temporary folder to remove, or nothing; $2: the log; then the server and its arguments. File descriptor 3 is a pipe
 * whose other end only the starting process holds: it ends when that process does, however it dies, and the server with it.
 * A server whose data are to stay gets a moment to write its append-only file. The first line printed is the server's id.
 */
const guard = `
scratch=$1; log=$2; shift 2
"$@" </dev/null >>"$log" 2>&1 3<&- &
server=$!
echo "$server"
exec >/dev/null
(
  read -r _ <&3
  trap '' TERM
  if [ -z "$scratch" ]; then kill -CONT "$server"; kill -TERM "$server"; sleep 3; fi
  kill -KILL "$server"
  if [ -n "$scratch" ]; then rm -rf "$scratch"; fi
) 2>/dev/null &
watcher=$!
wait "$server"
kill -TERM "$watcher" 2>/dev/null
`

class Server implements EmbeddedRedis {
  #running: { guard: ChildProcess; pid: number; gone: Promise<void> } | undefined
  #port: number | undefined
  readonly socketPath: string | undefined
  readonly #password: string
  readonly #log: string

  constructor(
    private readonly program: string,
    readonly dataDir: string,
    private readonly temporary: boolean,
    private readonly options: EmbeddedRedisOptions,
  ) {
    this.#password = options.password ?? randomBytes(24).toString('base64url')
    this.#log = join(dataDir, 'redis.log')
    this.socketPath = options.socket === true ? join(dataDir, 'redis.sock') : options.socket === undefined ? undefined : resolve(options.socket)
    this.#port = options.port
  }

  get port(): number | undefined {
    return this.socketPath === undefined ? this.#port : undefined
  }

  get url(): string {
    if (this.socketPath !== undefined) return this.socketPath
    return `redis://:${encodeURIComponent(this.#password)}@127.0.0.1:${this.#port ?? 0}`
  }

  get connection(): EmbeddedRedis['connection'] {
    const { socketPath, port } = this
    if (socketPath !== undefined) return { path: socketPath, password: this.#password }
    return { host: '127.0.0.1', port: port ?? 0, password: this.#password }
  }

  get pid(): number | undefined {
    return this.#running?.pid
  }

  async restart(): Promise<void> {
    await this.kill('SIGTERM')
    // Another process may take a free port between our look and the server's bind: then look again.
    for (let attempt = 1; ; attempt++) {
      const fixed = this.socketPath !== undefined || this.#port !== undefined
      if (!fixed) this.#port = await freePort()
      try {
        await this.#start()
        return
      } catch (error) {
        await this.kill()
        if (fixed || attempt === 5 || !/address already in use/i.test(errorMessage(error))) throw error
        this.#port = undefined
      }
    }
  }

  async #start(): Promise<void> {
    const config = join(this.dataDir, 'redis.conf')
    await writeFile(config, this.#configuration(), { mode: 0o600 })
    await writeFile(this.#log, '', { mode: 0o600 })
    const child = spawn('/bin/sh', ['-c', guard, 'guard', this.temporary ? this.dataDir : '', this.#log, this.program, config], {
      // A session of its own: Ctrl-C in a terminal must reach the consumer alone, which then closes the server last.
      detached: true,
      stdio: ['ignore', 'pipe', 'ignore', 'pipe'],
    })
    const gone = new Promise<void>((ended) => {
      child.once('error', () => ended())
      child.once('exit', () => ended())
    }).then(() => {
      if (this.#running?.guard === child) this.#running = undefined
    })
    const pid = await new Promise<number>((found, failed) => {
      child.once('error', failed)
      child.stdout?.once('data', (line: Buffer) => found(Number(line.toString())))
      void gone.then(() => failed(new EmbeddedRedisError(`${this.program} did not start`)))
    })
    this.#running = { guard: child, pid, gone }
    // The guard must not keep the event loop alive: a program that forgets to close still exits, and the pipe ends the server.
    child.unref()
    for (const stream of child.stdio) if (stream instanceof Socket) stream.unref()
    await this.#answers(pid, gone)
  }

  /** Waits until the server answers, past loading its append-only file; and not another server that has the port. */
  async #answers(pid: number, gone: Promise<void>): Promise<void> {
    const timeoutMs = this.options.startTimeoutMs ?? 15_000
    const client = new Redis({ ...this.connection, retryStrategy: () => 20, maxRetriesPerRequest: null })
    client.on('error', () => undefined)
    let timer: NodeJS.Timeout | undefined
    try {
      const outcome = await Promise.race([
        client.info('server').then((info) => (info.includes(`process_id:${pid}\r`) ? ('ready' as const) : gone.then(() => 'exited' as const))),
        gone.then(() => 'exited' as const),
        new Promise<'late'>((passed) => (timer = setTimeout(() => passed('late'), timeoutMs))),
      ])
      if (outcome === 'ready') return
      const said = (await readFile(this.#log, 'utf8')).trim().split('\n').slice(-5).join(' | ')
      throw new EmbeddedRedisError(
        `${this.program} ${outcome === 'exited' ? 'exited at its start' : `did not answer within ${timeoutMs} ms`}: ${said === '' ? 'it said nothing' : said}`,
      )
    } finally {
      clearTimeout(timer)
      client.disconnect()
    }
  }

  #configuration(): string {
    const appendOnly = this.options.appendOnly ?? !this.temporary
    const quoted = (text: string) => `"${text.replace(/["\\]/g, '\\$&')}"`
    return [
      ...(this.socketPath === undefined
        ? [`port ${this.#port ?? 0}`, 'bind 127.0.0.1']
        : ['port 0', `unixsocket ${quoted(this.socketPath)}`, 'unixsocketperm 700']),
      `dir ${quoted(this.dataDir)}`,
      `requirepass ${quoted(this.#password)}`,
      'maxmemory-policy noeviction',
      'save ""',
      `appendonly ${appendOnly ? 'yes' : 'no'}`,
      'appendfsync everysec',
      'daemonize no',
      '',
    ].join('\n')
  }

  async kill(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
    const running = this.#running
    if (running === undefined) return
    // A frozen process takes no SIGTERM until it goes on.
    if (signal === 'SIGTERM') this.#signal('SIGCONT')
    this.#signal(signal)
    running.guard.ref()
    const late = setTimeout(() => this.#signal('SIGKILL'), 5_000)
    await running.gone
    clearTimeout(late)
  }

  freeze(): void {
    this.#signal('SIGSTOP')
  }

  thaw(): void {
    this.#signal('SIGCONT')
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.#running === undefined) return
    try {
      process.kill(this.#running.pid, signal)
    } catch (error) {
      // It died just now; its guard's exit follows.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }

  async close(): Promise<void> {
    await this.kill(this.temporary ? 'SIGKILL' : 'SIGTERM')
    if (this.temporary) await rm(this.dataDir, { recursive: true, force: true, maxRetries: 10 })
    else if (this.socketPath !== undefined) await rm(this.socketPath, { force: true })
  }
}

/** A port on 127.0.0.1 that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((listening, failed) => {
    server.once('error', failed)
    server.listen(0, '127.0.0.1', listening)
  })
  const address = server.address()
  await new Promise((closed) => server.close(closed))
  if (address === null || typeof address === 'string') throw new EmbeddedRedisError('the system gave no free port on 127.0.0.1')
  return address.port
}
