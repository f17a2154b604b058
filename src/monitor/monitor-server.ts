import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { errorMessage, InvalidInputError } from '../job/errors.js'

export interface MonitorServerOptions {
  readonly host: string
  /** 0 for any free port. */
  readonly port: number
  /** What keeps this process from going on, a sentence each: it is to be restarted. None while it lives. Never asks another process. */
  readonly stuck: () => readonly string[]
  /** What keeps it from doing its work now, a sentence each. */
  readonly unready: () => Promise<readonly string[]>
  /** What Prometheus scrapes. Left out: there is no `/metrics`. */
  readonly metrics?: (() => Promise<Scrape>) | undefined
}

/** Metrics in the text format of Prometheus. */
export interface Scrape {
  readonly contentType: string
  readonly text: string
}

export interface MonitorServer {
  /** `http://host:port/`. */
  readonly url: string
  close(): Promise<void>
}

interface Answer {
  readonly status: number
  readonly contentType: string
  readonly body: string
}

/**
 * Serves what watches a process, and nothing else, by plain HTTP and without asking who it is: `GET /healthz` answers 503 once the process is to be
 * restarted, `GET /readyz` while it can't do its work, and `GET /metrics` is for Prometheus. A frozen process answers nothing.
 * @throws InvalidInputError when the address can't be listened on.
 */
export async function startMonitorServer(options: MonitorServerOptions): Promise<MonitorServer> {
  const server = createServer({ requestTimeout: 10_000 }, (request, response) => {
    void answer(options, request.method ?? '', (request.url ?? '').split('?')[0] ?? '').then(({ status, contentType, body }) => {
      response.writeHead(status, { 'content-type': contentType, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', ...(status === 405 ? { allow: 'GET, HEAD' } : {}) })
      response.end(request.method === 'HEAD' ? undefined : body)
    })
  })
  await listen(server, options)
  const { port } = server.address() as AddressInfo
  return {
    url: `http://${options.host.includes(':') ? `[${options.host}]` : options.host}:${port}/`,
    async close() {
      await new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
    },
  }
}

/** Never throws. */
async function answer({ stuck, unready, metrics }: MonitorServerOptions, method: string, path: string): Promise<Answer> {
  if (!['/healthz', '/readyz', '/metrics'].includes(path) || (path === '/metrics' && metrics === undefined)) return plain(404, 'there is /healthz, /readyz and /metrics')
  if (method !== 'GET' && method !== 'HEAD') return plain(405, 'only GET and HEAD')
  try {
    if (path === '/healthz') return verdict(stuck())
    if (path === '/readyz') return verdict(await unready())
    const scrape = await metrics?.()
    return scrape === undefined ? plain(404, 'there are no metrics') : { status: 200, contentType: scrape.contentType, body: scrape.text }
  } catch (error) {
    return plain(503, errorMessage(error))
  }
}

function verdict(problems: readonly string[]): Answer {
  return { status: problems.length === 0 ? 200 : 503, contentType: 'application/json', body: JSON.stringify({ status: problems.length === 0 ? 'ok' : 'unavailable', problems }) }
}

function plain(status: number, text: string): Answer {
  return { status, contentType: 'text/plain; charset=utf-8', body: `${text}\n` }
}

async function listen(server: Server, { host, port }: MonitorServerOptions): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(new InvalidInputError(`monitor: can't listen on ${host}:${port} (${errorMessage(error)}); choose another monitor.host or monitor.port`)))
    server.listen(port, host, () => resolve())
  })
}
