import type { Redis } from 'ioredis'

/** What a Redis says of itself, since it was started. */
export interface RedisFigures {
  /** What it has used of a processor, in milliseconds, whatever else the machine did. */
  readonly cpuMs: number
  /** Commands that it has executed, those inside of scripts included. */
  readonly commands: number
  /** Scripts that it was sent. */
  readonly scripts: number
  /** Bytes that it was sent. */
  readonly receivedBytes: number
  /** What it holds, in bytes. */
  readonly usedBytes: number
}

export async function redisFigures(client: Redis): Promise<RedisFigures> {
  const [cpu, commands, stats, memory] = await Promise.all([client.info('cpu'), client.info('commandstats'), client.info('stats'), client.info('memory')])
  const number = (text: string, field: string) => Number(new RegExp(`^${field}:([\\d.]+)`, 'm').exec(text)?.[1])
  const calls = [...commands.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)].map(([, name = '', count]) => ({ name, count: Number(count) }))
  const sum = (counted: typeof calls) => counted.reduce((all, { count }) => all + count, 0)
  return {
    cpuMs: 1000 * (number(cpu, 'used_cpu_sys') + number(cpu, 'used_cpu_user')),
    commands: sum(calls),
    scripts: sum(calls.filter(({ name }) => name === 'evalsha')),
    receivedBytes: number(stats, 'total_net_input_bytes'),
    usedBytes: number(memory, 'used_memory'),
  }
}

/** What all keys take, in bytes, without what stands beside them: connections, scripts, the table of keys itself. */
export async function keysBytes(client: Redis): Promise<number> {
  let sum = 0
  for await (const keys of client.scanStream({ count: 1_000 })) {
    const sizes = await Promise.all((keys as string[]).map((key) => client.memory('USAGE', key, 'SAMPLES', 0)))
    sum += sizes.reduce<number>((all, size) => all + (size ?? 0), 0)
  }
  return sum
}
