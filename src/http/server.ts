import { createServer, type Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { errorMessage, InvalidInputError } from '../job/errors.js'
import type { Api } from './api.js'
import { problem } from './problem.js'

export interface ApiServerOptions {
  readonly api: Api
  readonly host: string
  /** 0 for any free port. */
  readonly port: number
  /** How long requests under way are waited for when it closes, in milliseconds. Default 10,000. */
  readonly graceMs?: number | undefined
}

export interface ApiServer {
  /** `http://host:port/`. */
  readonly url: string
  /** Takes no more connections, ends streams, waits for requests under way, and then closes what is left. */
  close(): Promise<void>
}

const defaultGraceMs = 10_000
const requestTimeoutMs = 60_000
const lookEveryMs = 50

/**
 * Serves an API by plain HTTP.
 * @throws InvalidInputError when the address can't be listened on.
 */
export async function startApiServer({ api, host, port, graceMs = defaultGraceMs }: ApiServerOptions): Promise<ApiServer> {
  const server = createServer({ requestTimeout: requestTimeoutMs }, (request, response) => void api.listener(request, response))
  server.on('checkExpectation', (request, response) => void api.listener(request, response))
  // What is no HTTP never becomes a request.
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => refuse(socket, error.code))
  await listen(server, host, port)
  const { port: bound } = server.address() as AddressInfo
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${bound}/`,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      api.stop()
      const grace = new AbortController()
      const late = delay(graceMs, 'late' as const, { signal: grace.signal }).catch(() => 'closed' as const)
      // A connection that is kept alive is idle only after its answer.
      const idle = setInterval(() => server.closeIdleConnections(), lookEveryMs)
      if ((await Promise.race([closed, late])) === 'late') server.closeAllConnections()
      clearInterval(idle)
      grace.abort()
      await closed
    },
  }
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(new InvalidInputError(`http: can't listen on ${host}:${port} (${errorMessage(error)}); choose another host or port`)))
    server.listen(port, host, () => resolve())
  })
}

function refuse(socket: Socket, code: string | undefined): void {
  if (!socket.writable || code === 'ECONNRESET') {
    socket.destroy()
    return
  }
  const status = code === 'HPE_HEADER_OVERFLOW' ? 431 : code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : 400
  const reasons = { 400: 'Bad Request', 408: 'Request Timeout', 431: 'Request Header Fields Too Large' } as const
  const body = JSON.stringify(problem(status, 'SWY_HTTP_MALFORMED', status === 431 ? 'the header is too large; send at most 16 KiB' : status === 408 ? `the request did not come within ${requestTimeoutMs / 1000} seconds; send it faster` : 'the request is no HTTP; look at its first line, its header and its lengths'))
  socket.end(`HTTP/1.1 ${status} ${reasons[status]}\r\nconnection: close\r\ncontent-type: application/problem+json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
}
