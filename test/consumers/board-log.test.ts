import { Queue } from 'bullmq'
import { pino } from 'pino'
import { expect, it } from 'vitest'
import { BoardLog } from '../../src/consumers/output/board-log.js'
import { after, useRedis } from '../store/fixture.js'

const redis = useRedis()

it('shows the latest output of a job, and holds it within a bound of bytes', async () => {
  const queue = new Queue('agents', { connection: redis.connect(), prefix: '{switchyard}' })
  after(() => queue.close())
  const job = await queue.add('job', {}, { jobId: 'job-1' })
  const log = new BoardLog(job, pino({ level: 'silent' }))
  for (let row = 0; row < 60; row++) {
    log.add([{ step: 'step 1', stream: 'stdout', attempt: 1, offset: 0, data: Buffer.from(`row ${row} ${'é'.repeat(20_000)}\n`) }])
    // Writes what there is, as its timer would.
    await log.close()
  }
  const { logs } = await queue.getJobLogs('job-1')
  const bytes = logs.reduce((sum, row) => sum + Buffer.byteLength(row), 0)
  expect(bytes).toBeLessThanOrEqual(512 * 1024)
  expect(logs.map((row) => Number(row.split(' ')[1]))).toEqual(logs.map((_row, index) => 60 - logs.length + index))
  expect(logs.length).toBeGreaterThan(4)
})
