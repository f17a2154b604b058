import { Redis } from 'ioredis'
import { type RedisProcess, startRedisProcess, until } from './redis-process.js'

/** A primary with a replica or more, and three sentinels that watch them. */
export interface RedisSentinels {
  readonly servers: readonly RedisProcess[]
  /** HOST:PORT of the sentinels. */
  readonly addresses: string[]
  readonly name: string
  readonly password: string
  /** The primary, as the sentinels say. */
  primary(): Promise<RedisProcess>
  /** Whether a server has become a replica. */
  isReplica(server: RedisProcess): Promise<boolean>
  /** Tells the sentinels to make a replica the primary. */
  failOver(): Promise<void>
  close(): Promise<void>
}

const password = 'sentinel-password'
const name = 'jobs'

/** @param options.lines more of the servers' configuration. */
export async function startRedisSentinels({ replicas = 1, lines = [] }: { readonly replicas?: number; readonly lines?: readonly string[] } = {}): Promise<RedisSentinels> {
  const data = (more: readonly string[] = []) => startRedisProcess(() => [`requirepass ${password}`, `masterauth ${password}`, 'repl-diskless-sync-delay 0', 'appendonly no', ...lines, ...more])
  const primary = await data()
  const servers = [primary, ...(await Promise.all(Array.from({ length: replicas }, () => data([`replicaof 127.0.0.1 ${primary.port}`]))))]
  const sentinels = await Promise.all(
    [1, 2, 3].map(() =>
      startRedisProcess(
        () => [
          `sentinel monitor ${name} 127.0.0.1 ${primary.port} 2`,
          `sentinel auth-pass ${name} ${password}`,
          `sentinel down-after-milliseconds ${name} 1000`,
          `sentinel failover-timeout ${name} 5000`,
        ],
        { sentinel: true },
      ),
    ),
  )
  const clients = sentinels.map(({ port }) => {
    const client = new Redis(port, '127.0.0.1', { protocol: 2, enableReadyCheck: false })
    client.on('error', () => undefined)
    return client
  })
  for (const client of clients) {
    await until('the sentinels know each other and the replicas', async () => {
      const [fields] = (await client.call('SENTINEL', 'MASTERS')) as string[][]
      const field = (wanted: string) => fields?.[fields.indexOf(wanted) + 1]
      return field('num-other-sentinels') === '2' && field('num-slaves') === String(replicas)
    })
  }
  const [first] = clients
  return {
    servers,
    addresses: sentinels.map(({ port }) => `127.0.0.1:${port}`),
    name,
    password,
    async primary() {
      const [, port] = (await first?.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', name)) as [string, string]
      const found = servers.find((server) => server.port === Number(port))
      if (found === undefined) throw new Error(`the sentinels name port ${port}, where nothing was started`)
      return found
    },
    async isReplica(server) {
      const client = new Redis(server.port, '127.0.0.1', { password, protocol: 2 })
      try {
        return (await client.role())[0] === 'slave'
      } finally {
        client.disconnect()
      }
    },
    async failOver() {
      await first?.call('SENTINEL', 'FAILOVER', name)
    },
    async close() {
      for (const client of clients) client.disconnect()
      await Promise.all([...sentinels, ...servers].map((one) => one.close()))
    },
  }
}
