import { connect, createServer, type Socket } from 'node:net'

/** A consumer's own way to Redis. */
export interface Wire {
  readonly url: string
  /**
   * Cuts all connections when the consumer has sent so many pieces more.
   * @param how.arrives whether Redis still gets the last one, so that what it does is done and only its answer is lost.
   * @param how.comesBack whether new connections are let through afterwards; else not before `mend`.
   */
  cutAfter(pieces: number, how: { readonly arrives: boolean; readonly comesBack: boolean }): void
  /** Holds back whatever is sent, both ways, and then lets all of it through: what a process meets that was stopped for so long. */
  freeze(ms: number): void
  mend(): void
  /** Leads to another port from now on; what is connected is cut off. */
  lead(port: number): void
  close(): Promise<void>
}

/** A cut waits so long for Redis to get the last piece, and for its answer to be lost. */
const arrivalMs = 5

/** @param target Redis' address; the wire's has its password too. */
export async function startWire(target: URL): Promise<Wire> {
  let port = Number(target.port)
  let isCut = false
  let cut: { left: number; readonly arrives: boolean; readonly comesBack: boolean } | undefined
  let freezes = 0
  const held: (() => void)[] = []
  const sockets = new Set<Socket>()
  const cutAll = () => {
    for (const socket of sockets) socket.destroy()
  }
  const carry = (piece: Buffer, to: Socket) => {
    const write = () => {
      if (!to.destroyed) to.write(piece)
    }
    if (freezes > 0) held.push(write)
    else write()
  }
  const join = (client: Socket, redis: Socket) => {
    for (const [socket, other] of [[client, redis], [redis, client]] as const) {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
  }
  const server = createServer((client) => {
    if (isCut) {
      client.destroy()
      return
    }
    const redis = connect(port, target.hostname)
    join(client, redis)
    let answers = true
    client.on('data', (piece: Buffer) => {
      if (cut === undefined || --cut.left > 0) {
        carry(piece, redis)
        return
      }
      const { arrives, comesBack } = cut
      cut = undefined
      isCut = !comesBack
      if (!arrives) {
        cutAll()
        return
      }
      answers = false
      client.pause()
      redis.write(piece, () => setTimeout(cutAll, arrivalMs))
    })
    redis.on('data', (piece: Buffer) => {
      if (answers) carry(piece, client)
    })
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the wire has no port')
  const url = new URL(target)
  url.port = String(address.port)
  return {
    url: url.href,
    cutAfter(pieces, how) {
      cut = { left: pieces, ...how }
    },
    freeze(ms) {
      freezes++
      setTimeout(() => {
        if (--freezes === 0) for (const write of held.splice(0)) write()
      }, ms)
    },
    mend() {
      isCut = false
      cut = undefined
    },
    lead(other) {
      port = other
      cutAll()
    },
    async close() {
      isCut = true
      cutAll()
      await new Promise((closed) => server.close(closed))
    },
  }
}
