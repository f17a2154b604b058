import { describe, expect, it } from 'vitest'
import { UnknownJobError } from '../../src/job/errors.js'
import type { LogChunk, LogLine } from '../../src/job/log.js'
import { createRedis, readLog, type ReadLogOptions, RunStore } from '../../src/store/index.js'
import { record, result, until, useRedis } from './fixture.js'

const redis = useRedis()

async function start(options = {}) {
  const client = redis.connect()
  const store = new RunStore(client, redis.keys, options)
  const acquired = await store.acquire('job', { holder: 'a', fresh: record('job') })
  if (acquired.kind !== 'acquired') throw new Error('ended')
  const offsets = new Map<string, number>()
  const write = async (data: string | Uint8Array, fields: Partial<LogChunk> = {}) => {
    const bytes = Buffer.from(data)
    const name = `${fields.attempt ?? 1}${fields.step ?? 'agent'}${fields.stream ?? 'stdout'}`
    const offset = offsets.get(name) ?? 0
    offsets.set(name, offset + bytes.length)
    await store.append('job', acquired.fence, record('job'), [{ step: 'agent', stream: 'stdout', attempt: 1, offset, data: bytes, ...fields }])
  }
  let opened = 0
  const read = (readOptions: ReadLogOptions = {}) =>
    readLog(
      {
        redis: client,
        keys: redis.keys,
        openBlocking: () => {
          opened++
          return createRedis(redis.config, 'blocking')
        },
        standing: async (jobId) => {
          const [standing] = await store.standings([jobId])
          if (standing?.known !== true) return 'unknown'
          return standing.result === null ? 'running' : 'ended'
        },
      },
      'job',
      readOptions,
    )
  const finish = () => store.finish('job', acquired.fence, record('job'), result('job'), { id: 'job.1' })
  return { client, write, read, finish, opened: () => opened }
}

async function collect(lines: AsyncIterable<LogLine>): Promise<LogLine[]> {
  const all: LogLine[] = []
  for await (const line of lines) all.push(line)
  return all
}

describe('reading', () => {
  it('yields every piece in order with exact bytes, and resumes behind any of them', async () => {
    const { write, read } = await start()
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => index)
    await write('one\n')
    await write(bytes, { stream: 'stderr' })
    await write('two\n')
    const all = await collect(read())
    expect(all.map(({ seq, stream, offset }) => [seq, stream, offset])).toEqual([[1, 'stdout', 0], [2, 'stderr', 0], [3, 'stdout', 4]])
    expect(Buffer.from(all[1]!.data)).toEqual(Buffer.from(bytes))
    for (const { seq } of all) expect((await collect(read({ after: seq }))).map((line) => line.seq)).toEqual(all.map((line) => line.seq).filter((one) => one > seq))
  })

  it('joins characters that are split over pieces, each stream for itself, after resuming too', async () => {
    const { write, read } = await start()
    const text = 'naïve 🚀 done'
    for (const byte of Buffer.from(text)) {
      await write(Uint8Array.of(byte))
      await write(Uint8Array.of(byte), { stream: 'stderr' })
    }
    const all = await collect(read())
    for (const stream of ['stdout', 'stderr']) {
      expect(all.filter((line) => line.stream === stream).map((line) => line.text).join('')).toBe(text)
    }
    // Resumed in the middle of the rocket: what was told before plus what is told now is the whole text.
    for (let seq = 1; seq < all.length; seq++) {
      const both = [...all.filter((line) => line.seq <= seq), ...(await collect(read({ after: seq })))]
      expect(both.filter(({ stream }) => stream === 'stdout').map((line) => line.text).join('')).toBe(text)
    }
  })

  it.each([['by less than it was read', 2, ['one\n', 'two\n']], ['to before all that was read', 0, []]])('says that Redis went back %s, and goes on with what is another piece', async (_what, kept, before) => {
    const { client, write, read, finish } = await start()
    const keys = [redis.keys.run('job'), redis.keys.log('job'), redis.keys.logAccount('job')]
    for (const line of before) await write(line)
    const dumps = await Promise.all(keys.map((key) => client.dumpBuffer(key)))
    await write('lost\n')
    await write('lost too\n')
    const told: LogLine[] = []
    const reading = (async () => {
      for await (const line of read({ follow: true })) told.push(line)
    })()
    await until(() => told.length === before.length + 2, 'all of it was read')
    const resumed = told.at(-1)!.seq
    for (const [index, key] of keys.entries()) {
      if (dumps[index] == null) await client.del(key)
      else await client.restore(key, 0, dumps[index], 'REPLACE')
    }
    await write('anew\n', { step: 'next' })
    await finish()
    await reading
    const went = expect.stringContaining('Redis went back') as string
    expect(told.map(({ text }) => text)).toEqual([...before, 'lost\n', 'lost too\n', went, 'anew\n'])
    expect(told.slice(-2).map(({ seq }) => seq)).toEqual([kept, kept + 1])
    // Who resumes can't know which of it is another piece.
    expect((await collect(read({ after: resumed + 1, follow: true }))).map(({ text }) => text)).toEqual([went])
  })

  it('says how much of the middle is missing, and numbers that so that resuming behind it repeats and skips no piece', async () => {
    const { write, read } = await start({ logMaxBytesPerStream: 8 * 1024 })
    for (let index = 0; index < 100; index++) await write(String(index).padStart(1000, '.'))
    const all = await collect(read())
    const marker = all.find(({ stream }) => stream === 'system')!
    const kept = all.filter(({ stream }) => stream === 'stdout')
    const missing = 100_000 - kept.reduce((sum, { data }) => sum + data.length, 0)
    expect(marker.text).toBe(`[… ${missing} bytes omitted …]\n`)
    expect(all.filter(({ stream }) => stream === 'system')).toHaveLength(1)
    const resumed = await collect(read({ after: marker.seq }))
    expect(resumed.filter(({ stream }) => stream === 'stdout').map(({ seq }) => seq)).toEqual(kept.map(({ seq }) => seq).filter((seq) => seq > marker.seq))
  })
})

describe('following', () => {
  it('yields what comes, ends with the job, and closes its connection', async () => {
    const { write, read, finish, client, opened } = await start()
    await write('before\n')
    const reading = collect(read({ follow: true }))
    await until(() => opened() === 1, 'the reader waits for more')
    await write('after\n')
    await finish()
    expect((await reading).map(({ text }) => text)).toEqual(['before\n', 'after\n'])
    await until(async () => !String(await client.call('CLIENT', 'LIST')).includes('cmd=xread'), 'no connection of the reader is left')
    // Of a job that has ended, from the start and from behind its end.
    expect(await collect(read({ follow: true }))).toHaveLength(2)
    expect(await collect(read({ follow: true, after: 3 }))).toEqual([])
  })

  it('does not end as that of an ended job does where the job is gone in the middle', async () => {
    const { write, read, opened } = await start()
    await write('before\n')
    const lines: string[] = []
    const reading = (async () => {
      for await (const { text } of read({ follow: true })) lines.push(text)
    })()
    await until(() => opened() === 1, 'the reader waits for more')
    await redis.client.flushall()
    await expect(reading).rejects.toThrow(UnknownJobError)
    expect(lines).toEqual(['before\n'])
  })

  it('ends where the job is gone once its end was read', async () => {
    const { write, read, finish } = await start()
    await write('all\n')
    await finish()
    const reading = read({ follow: true })
    await reading.next()
    await redis.client.del(redis.keys.run('job'))
    expect(await reading.next()).toEqual({ done: true, value: undefined })
  })

  it('stops at once with the reason of the signal', async () => {
    const { read, opened } = await start()
    const stop = new AbortController()
    const reading = collect(read({ follow: true, signal: stop.signal }))
    await until(() => opened() === 1, 'the reader waits for more')
    stop.abort(new Error('enough read'))
    await expect(reading).rejects.toThrow('enough read')
  })
})
