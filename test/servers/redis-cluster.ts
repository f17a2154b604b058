import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { type RedisProcess, startRedisProcess, until } from './redis-process.js'

export interface ClusterNode extends RedisProcess {
  readonly client: Redis
}

/** A real Redis Cluster on this machine: three primaries with a replica each. */
export interface RedisCluster {
  readonly nodes: readonly ClusterNode[]
  /** HOST:PORT of each. */
  readonly addresses: string[]
  readonly password: string
  /** Who serves a slot now, as a node that lives says. */
  primaryOf(slot: number): Promise<ClusterNode>
  replicaOf(slot: number): Promise<ClusterNode>
  slotOf(key: string): Promise<number>
  /** Moves a slot with all its keys to another primary, as `redis-cli --cluster reshard` does. */
  moveSlot(slot: number, to: ClusterNode, options?: { readonly slowly?: boolean }): Promise<void>
  close(): Promise<void>
}

const nodeTimeoutMs = 1_500
const password = 'cluster-password'

export async function startRedisCluster(lines: readonly string[] = []): Promise<RedisCluster> {
  const started = await Promise.all(
    Array.from({ length: 6 }, () =>
      startRedisProcess((_port, folder) => [
        'cluster-enabled yes',
        `cluster-config-file ${folder}/nodes.conf`,
        `cluster-node-timeout ${nodeTimeoutMs}`,
        'cluster-replica-validity-factor 0',
        'repl-diskless-sync-delay 0',
        'appendonly no',
        `requirepass ${password}`,
        `masterauth ${password}`,
        ...lines,
      ]),
    ),
  )
  const nodes: ClusterNode[] = started.map((node) => {
    const client = new Redis(node.port, '127.0.0.1', { password, protocol: 2, maxRetriesPerRequest: 1, retryStrategy: () => 50 })
    client.on('error', () => undefined)
    return Object.assign(node, { client })
  })
  const alive = () => nodes.filter(({ pid }) => pid !== undefined)
  const idOf = async (node: ClusterNode) => await node.client.cluster('MYID')
  const serving = async (slot: number): Promise<ClusterNode[]> => {
    for (const node of alive()) {
      const ranges = (await node.client.cluster('SLOTS')) as unknown as [number, number, ...[string, number][]][]
      const range = ranges.find(([from, to]) => from <= slot && slot <= to)
      if (range !== undefined) return range.slice(2).flatMap((one) => nodes.filter(({ port }) => port === (one as unknown as [string, number])[1]))
    }
    throw new Error(`nobody serves slot ${slot}`)
  }
  const at = async (slot: number, which: number): Promise<ClusterNode> => {
    const found = (await serving(slot))[which]
    if (found === undefined) throw new Error(`slot ${slot} has no such node`)
    return found
  }
  const close = async () => {
    for (const { client } of nodes) client.disconnect()
    await Promise.all(nodes.map((node) => node.close()))
  }
  try {
    await Promise.all(nodes.map((node, index) => node.client.call('CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1))))
    await Promise.all(nodes.slice(0, 3).map((node, index) => node.client.call('CLUSTER', 'ADDSLOTSRANGE', String(Math.floor((16384 / 3) * index)), String(index === 2 ? 16383 : Math.floor((16384 / 3) * (index + 1)) - 1))))
    await Promise.all(nodes.map((from) => Promise.all(nodes.filter((to) => to !== from).map((to) => from.client.call('CLUSTER', 'MEET', '127.0.0.1', String(to.port))))))
    const info = async (node: ClusterNode, wanted: RegExp) => wanted.test(await node.client.cluster('INFO'))
    for (const node of nodes) await until('the nodes know each other', () => info(node, /cluster_known_nodes:6\r/))
    for (const [index, node] of nodes.slice(3).entries()) {
      const primary = nodes[index]
      if (primary === undefined) continue
      const id = await idOf(primary)
      await until('the replica knows its primary', async () => node.client.call('CLUSTER', 'REPLICATE', id).then(() => true, () => false))
    }
    for (const node of nodes) await until('the Cluster serves', () => info(node, /cluster_state:ok/))
    for (const node of nodes.slice(3)) await until('replicas have their data', async () => (await node.client.role())[3] === 'connected')
    for (let slot = 0; slot < 16384; slot += 5_461) await until('replicas are known', async () => (await serving(slot)).length === 2)
  } catch (error) {
    await close()
    throw error
  }
  return {
    nodes,
    addresses: nodes.map(({ port }) => `127.0.0.1:${port}`),
    password,
    primaryOf: (slot) => at(slot, 0),
    replicaOf: (slot) => at(slot, 1),
    slotOf: async (key) => Number(await alive()[0]?.client.cluster('KEYSLOT', key)),
    async moveSlot(slot, to, { slowly = false } = {}) {
      const from = await at(slot, 0)
      const [fromId, toId] = [await idOf(from), await idOf(to)]
      await to.client.call('CLUSTER', 'SETSLOT', String(slot), 'IMPORTING', fromId)
      await from.client.call('CLUSTER', 'SETSLOT', String(slot), 'MIGRATING', toId)
      if (slowly) await delay(300)
      for (;;) {
        const keys = (await from.client.call('CLUSTER', 'GETKEYSINSLOT', String(slot), slowly ? '3' : '100')) as string[]
        if (keys.length === 0) break
        await from.client.call('MIGRATE', '127.0.0.1', String(to.port), '', '0', '5000', 'AUTH', password, 'KEYS', ...keys)
        if (slowly) await delay(20)
      }
      await to.client.call('CLUSTER', 'SETSLOT', String(slot), 'NODE', toId)
      await from.client.call('CLUSTER', 'SETSLOT', String(slot), 'NODE', toId)
    },
    close,
  }
}
