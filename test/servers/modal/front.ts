/**
 * The door of the server: every connection of a client passes through it, so that faults can break one as a network
 * does, in the middle of a call, and a provider that is down refuses new ones.
 */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

export interface Front {
  readonly port: number
  /** Breaks the connection by which a call came; `peer` is what gRPC says of the caller. */
  break(peer: string): void
  breakAll(): void
  /** Connections of clients that are open. */
  count(): number
  close(): Promise<void>
}

/** Listens on `port` of 127.0.0.1 and passes on to `innerPort`. `isDown` is asked at each new connection. */
export async function openFront(port: number, innerPort: number, isDown: () => boolean): Promise<Front> {
  const clients = new Map<number, Socket>()
  // Small messages go back and forth: held back to be joined, each would cost 40 ms.
  const server = createServer({ noDelay: true }, (client) => {
    client.on('error', () => client.destroy())
    if (isDown()) {
      client.resetAndDestroy()
      return
    }
    const inner = connect({ port: innerPort, host: '127.0.0.1', noDelay: true })
    inner.on('error', () => client.destroy())
    inner.once('connect', () => {
      const key = inner.localPort ?? 0
      clients.set(key, client)
      inner.once('close', () => clients.delete(key))
      client.pipe(inner).pipe(client)
    })
    client.once('close', () => inner.destroy())
    inner.once('close', () => client.destroy())
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const breakOne = (client: Socket | undefined) => client?.resetAndDestroy()
  return {
    port: (server.address() as AddressInfo).port,
    break: (peer) => breakOne(clients.get(Number(peer.slice(peer.lastIndexOf(':') + 1)))),
    count: () => clients.size,
    breakAll: () => [...clients.values()].forEach(breakOne),
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      for (const client of clients.values()) client.destroy()
      await closed
    },
  }
}
