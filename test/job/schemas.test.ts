import { readdir, readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { schemaFiles } from '../../script/write-schemas.js'
import { completionEvent } from '../../src/events/index.js'
import { result } from '../store/fixture.js'

const folder = new URL('../../schema/', import.meta.url)
const load = async (name: string) => z.fromJSONSchema(JSON.parse(await readFile(new URL(name, folder), 'utf8')) as z.core.JSONSchema.JSONSchema)

describe('the JSON Schemas', () => {
  it('are current; otherwise run npx tsx script/write-schemas.ts', async () => {
    const files = await schemaFiles()
    expect((await readdir(folder)).sort()).toEqual([...files.keys()].sort())
    for (const [name, content] of files) expect(await readFile(new URL(name, folder), 'utf8'), name).toBe(content)
  })

  it('take a job as users write it, and refuse a field that is not known', async () => {
    const job = await load('job.json')
    const spec = { repository: 'acme/web', steps: ['npm test', { run: 'x', timeout: '40m' }], timeout: '1h', priority: 10 }
    expect(job.safeParse(spec).success).toBe(true)
    expect(job.safeParse({ ...spec, setps: [] }).success).toBe(false)
    expect(job.safeParse({ ...spec, steps: [] }).success).toBe(false)
    expect(job.safeParse({ steps: ['x'] }).success).toBe(false)
  })

  it('take what Switchyard gives: results and events', async () => {
    const [results, events] = [await load('result.json'), await load('event.json')]
    expect(results.safeParse(result('job')).success).toBe(true)
    expect(results.safeParse({ ...result('job'), status: 'done' }).success).toBe(false)
    expect(events.safeParse(completionEvent(result('job'))).success).toBe(true)
    expect(events.safeParse({ ...completionEvent(result('job')), specversion: '0.3' }).success).toBe(false)
    const life = await load('job-event.json')
    const started = { ...completionEvent(result('job')), type: 'dev.switchyard.job.started', data: { jobId: 'job', run: 1, repository: 'acme/web', tenant: null, attempt: 1, provider: 'a', sandboxId: 's' } }
    for (const event of [started, completionEvent(result('job'))]) expect(life.safeParse(event).success).toBe(true)
    expect(life.safeParse({ ...started, type: 'dev.switchyard.job.moved' }).success).toBe(false)
  })
})
