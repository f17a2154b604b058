import { randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import type { Server } from 'node:http'
import { createAdaptorServer } from '@hono/node-server'
import { errorMessage, InvalidInputError } from '../job/errors.js'
import { boardAccess } from './board-access.js'
import { application, isLoopback, type ApplicationOptions } from './monitor.js'

export { isLoopback } from './monitor.js'

export interface BoardOptions extends Pick<ApplicationOptions, 'redis' | 'queues' | 'webhooks' | 'metrics' | 'links' | 'fleetEveryMs' | 'onChange'> {
  readonly host: string
  /** 0 for any free port. */
  readonly port: number
  /**
   * Asked for by every page but `/healthz`. Left out: a password is made, and `loginUrl` is the way in. `none`: nobody is asked, which
   * lets in whatever runs on this machine. On another address than loopback a password must be given.
   */
  readonly credentials?: { readonly username: string; readonly password: string } | 'none' | undefined
  /** Whether jobs can be cancelled, retried, promoted and removed. Default false: every change answers 405. */
  readonly writable?: boolean
}

export interface Board {
  /** `http://host:port/` without credentials. */
  readonly url: string
  /** A link that logs a browser in, until this board is closed; for whoever started it. The URL alone with `credentials: 'none'`. */
  readonly loginUrl: string
  close(): Promise<void>
}

/**
 * Serves Bull Board, the fleet's pages at `/fleet`, and `GET /healthz`, which answers 200 while Redis does and 503 otherwise. The connection
 * stays the caller's to close.
 * @throws InvalidInputError when the address can't be listened on, or is open to others and there are no credentials.
 */
export async function startBoard(options: BoardOptions): Promise<Board> {
  if (typeof options.credentials !== 'object' && !isLoopback(options.host)) {
    throw new InvalidInputError(
      `board.host: "${options.host}" can be reached by others, so the board needs a password; set SWITCHYARD_BOARD_PASSWORD, or listen on 127.0.0.1`,
    )
  }
  const { credentials = { username: 'admin', password: randomBytes(24).toString('base64url') }, writable = false } = options
  const access = credentials === 'none' ? null : boardAccess({ ...credentials, now: Date.now })
  const app = application({ ...options, writable, base: '', access, onlyLoopback: typeof options.credentials !== 'object' })
  const server = createAdaptorServer({ fetch: app.fetch }) as Server
  try {
    await listen(server, options.host, options.port)
  } catch (error) {
    await app.close()
    throw error
  }
  const { port } = server.address() as AddressInfo
  const url = `http://${options.host.includes(':') ? `[${options.host}]` : options.host}:${port}/`
  return {
    url,
    loginUrl: `${url}${access?.loginPath ?? ''}`,
    async close() {
      await new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
      await app.close()
    },
  }
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(new InvalidInputError(`board: can't listen on ${host}:${port} (${errorMessage(error)}); choose another board.host or board.port`)))
    server.listen(port, host, resolve)
  })
}
