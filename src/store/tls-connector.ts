import { type Socket } from 'node:net'
import { connect, type TLSSocket } from 'node:tls'
import { AbstractConnector, type RedisOptions, SentinelConnector } from 'ioredis'

/**
 * How ioredis dials by TLS. A server that refuses a client's certificate does so after the handshake, with an alert and then by hanging up: two errors of one
 * socket, of which ioredis listens to the first alone. The second would end the process.
 */
export class TlsConnector extends AbstractConnector {
  readonly #options: RedisOptions

  /** @param options the connection's; ioredis gives them to every connector, and types them as anything. */
  constructor(options: unknown) {
    const given = options as RedisOptions
    super(given.disconnectTimeout ?? 100)
    this.#options = given
  }

  override async connect(): Promise<Socket> {
    this.connecting = true
    // As ioredis' own: whoever opens it may close it in the same turn.
    await new Promise((resolve) => process.nextTick(resolve))
    if (!this.#isWanted()) throw new Error('Connection is closed.')
    const { host, port, path, family, tls } = this.#options
    const stream = connect({ ...(path === undefined ? { host: host ?? 'localhost', port: port ?? 6379, ...(family === undefined ? {} : { family }) } : { path }), ...tls })
    this.stream = stream
    stream.once('error', (error: Error) => {
      this.firstError = error
    })
    return heardToTheEnd(stream)
  }

  #isWanted(): boolean {
    return this.connecting
  }
}

/** The same for the primary that sentinels name. */
export class TlsSentinelConnector extends SentinelConnector {
  constructor(options: unknown) {
    super(options as ConstructorParameters<typeof SentinelConnector>[0])
  }

  override async connect(...emit: Parameters<SentinelConnector['connect']>): Promise<Socket> {
    return heardToTheEnd((await super.connect(...emit)) as TLSSocket)
  }
}

function heardToTheEnd<Stream extends Socket>(stream: Stream): Stream {
  stream.on('error', () => undefined)
  return stream
}
