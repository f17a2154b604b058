import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after } from '../undo.js'

/** A request that a receiver got, whole. */
export interface Received {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

export interface Receiver {
  /** With the port, without a path. */
  readonly origin: string
  readonly port: number
  readonly received: Received[]
}

/** A real HTTP server that answers as it is told; 204 when that is nothing. Closed after the test. */
export async function startReceiver(answer: (request: Received, response: ServerResponse) => void = () => undefined, listen: { readonly host?: string; readonly port?: number } = {}): Promise<Receiver> {
  const received: Received[] = []
  const server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const whole = { path: request.url ?? '', headers: request.headers, body: Buffer.concat(parts).toString() }
      received.push(whole)
      response.on('error', () => undefined)
      answer(whole, response)
      if (!response.headersSent && !held.has(response)) response.writeHead(204).end()
    })
  })
  const host = listen.host ?? '127.0.0.1'
  await new Promise<void>((resolve) => server.listen(listen.port ?? 0, host, resolve))
  after(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  )
  const { port } = server.address() as AddressInfo
  return { origin: `http://${host}:${port}`, port, received }
}

const held = new WeakSet<ServerResponse>()
/** The answer never comes. */
export function hold(response: ServerResponse): void {
  held.add(response)
}
