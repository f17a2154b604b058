import { afterAll, beforeAll, expect, it } from 'vitest'
import { artifactsConfigSchema, createArtifactStore, type ArtifactStore } from '../../src/artifacts/index.js'
import type { Artifact, TestSummary } from '../../src/job/artifacts.js'
import { startS3Server, type S3Server } from '../servers/s3/server.js'
import { useRedis } from '../store/fixture.js'
import { endJob, serve, spec } from './fixture.js'

const redis = useRedis()
let s3: S3Server
let store: ArtifactStore
beforeAll(async () => {
  s3 = await startS3Server()
  const config = artifactsConfigSchema.parse({ s3: { bucket: s3.bucket, region: s3.region, endpoint: s3.url, accessKeyIdEnv: 'KEY', secretAccessKeyEnv: 'SECRET' } })
  store = createArtifactStore(config, { environment: { KEY: s3.key.accessKeyId, SECRET: s3.key.secretAccessKey } })
})
afterAll(() => s3.close())

const tests: TestSummary = { reports: 1, tests: 2, failures: 0, errors: 0, skipped: 0, timeSeconds: 1, failing: [] }
interface List {
  readonly artifacts: readonly (Artifact & { readonly link: string | null })[]
  readonly tests: TestSummary | null
  readonly artifactsMissed: readonly object[]
}

async function stored(path: string): Promise<Artifact> {
  const sha256 = '0'.repeat(64)
  const bytes = Buffer.from(path)
  const { createHash } = await import('node:crypto')
  const where = await store.put({ key: `j/1.1/${path}`, sizeBytes: bytes.length, mediaType: 'text/plain', sha256: createHash('sha256').update(bytes).digest('hex'), content: { bytes } }, { timeoutMs: 10_000 })
  return { path, sizeBytes: bytes.length, mediaType: 'text/plain', sha256, where, from: 'sandbox' }
}

it('are listed with links that open them for as long as was asked, to whoever may see the job', async () => {
  const { queue, call, newKey } = await serve(redis, { artifacts: store })
  const [own, foreign] = [await newKey('read', ['acme']), await newKey('read', ['other'])]
  const { jobId } = await queue.enqueue({ ...spec(), tenant: 'acme' })
  const path = `/v1/jobs/${jobId}/artifacts`
  expect((await call<List>('GET', path, { key: own })).body).toEqual({ artifacts: [], artifactsMissed: [], artifactsMissedMore: 0, tests: null })
  const artifacts = [await stored('a.txt'), await stored('it is b.txt'), { ...(await stored('c')), where: 'file:///var/artifacts/c' }]
  await endJob(redis, jobId, { artifacts, artifactsMissed: [{ path: 'd', reason: 'nothing matches it', owner: 'job' }], tests, tenant: 'acme' })
  const plain = await call<List>('GET', path, { key: own })
  expect(plain.body).toMatchObject({ artifacts: artifacts.map((artifact) => ({ ...artifact, link: null })), tests, artifactsMissed: [{ path: 'd' }] })
  const linked = await call<List>('GET', `${path}?linkSeconds=60`, { key: own })
  expect(linked.body.artifacts.map(({ link }) => link?.split('?')[0])).toEqual([`${s3.url}/artifacts/j/1.1/a.txt`, `${s3.url}/artifacts/j/1.1/it%20is%20b.txt`, undefined])
  expect(await (await fetch(linked.body.artifacts[1]?.link ?? '')).text()).toBe('it is b.txt')
  expect((await call<List>('GET', `${path}?linkSeconds=60&path=a.txt`, { key: own })).body.artifacts.map((artifact) => artifact.path)).toEqual(['a.txt'])
  // Another tenant's is as unknown as one that never was.
  expect((await call('GET', `${path}?linkSeconds=60`, { key: foreign })).status).toBe(404)
  expect((await call('GET', path)).status).toBe(401)
  for (const query of ['linkSeconds=0', 'linkSeconds=604801', 'linkSeconds=x', 'path=', 'other=1']) expect([query, (await call('GET', `${path}?${query}`, { key: own })).status]).toEqual([query, 422])
})

it('have no links where no store is configured, and none to what is not in it', async () => {
  const without = await serve(redis)
  const key = await without.newKey('read')
  const { jobId } = await without.queue.enqueue(spec())
  await endJob(redis, jobId, { artifacts: [{ ...(await stored('a.txt')), where: 's3://others/j/1.1/a.txt' }] })
  expect((await without.call('GET', `/v1/jobs/${jobId}/artifacts?linkSeconds=60`, { key })).body).toMatchObject({ status: 422, detail: expect.stringContaining('no artifact store') as string })
  expect((await without.call<List>('GET', `/v1/jobs/${jobId}/artifacts`, { key })).body.artifacts).toHaveLength(1)
  const { call } = await serve(redis, { artifacts: store })
  expect((await call('GET', `/v1/jobs/${jobId}/artifacts?linkSeconds=60`, { key })).body).toMatchObject({ status: 422, detail: expect.stringContaining('is not in s3://artifacts/') as string })
})
