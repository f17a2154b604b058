import { connect, createServer, type Socket } from 'node:net'

/**
 * An address that stays while what is behind it changes, as a floating address or a service does in a failover.
 *
 * `silence` makes the connections that are open dead without a word, as when the machine behind them has gone.
 */
export interface TcpProxy {
  readonly port: number
  /** Where new connections go from now on. */
  target(port: number): void
  /** Carries nothing any more on the connections that are open, and never closes them. */
  silence(): void
  /** Cuts the connections that are open. */
  cut(): void
  /** What went to clients, as text. */
  carried(): string
  close(): Promise<void>
}

export async function startTcpProxy(firstTarget: number): Promise<TcpProxy> {
  let targetPort = firstTarget
  let carried = ''
  const pairs = new Set<readonly [Socket, Socket]>()
  const server = createServer((client) => {
    const upstream = connect(targetPort, '127.0.0.1')
    const pair = [client, upstream] as const
    pairs.add(pair)
    for (const socket of pair) {
      socket.on('error', () => undefined)
      socket.on('close', () => {
        if (!pairs.delete(pair)) return
        client.destroy()
        upstream.destroy()
      })
    }
    client.pipe(upstream)
    upstream.pipe(client)
    upstream.on('data', (data) => (carried += data.toString('latin1')))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port')
  const silenced: Socket[] = []
  const cut = () => {
    for (const [client, upstream] of pairs) {
      client.destroy()
      upstream.destroy()
    }
  }
  return {
    port: address.port,
    target(port) {
      targetPort = port
    },
    silence() {
      for (const pair of pairs) {
        pairs.delete(pair)
        const [client, upstream] = pair
        client.unpipe(upstream)
        upstream.unpipe(client)
        // What the client sends is taken, as by a network that loses it.
        client.resume()
        upstream.destroy()
        silenced.push(client)
      }
    },
    cut,
    carried: () => carried,
    async close() {
      cut()
      for (const socket of silenced) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
