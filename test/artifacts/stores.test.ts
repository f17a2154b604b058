import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { artifactsConfigSchema, createArtifactStore, type ArtifactStore, type StoredObject } from '../../src/artifacts/index.js'
import { parseConfig } from '../../src/config/index.js'
import { InfrastructureError } from '../../src/job/errors.js'
import { startS3Server, type S3Server } from '../servers/s3/server.js'

let folder: string
let s3: S3Server
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-stores-'))
  s3 = await startS3Server()
})
afterAll(async () => {
  await s3.close()
  await rm(folder, { recursive: true, force: true, maxRetries: 10 })
})

const options = { timeoutMs: 20_000 }

function s3Store(changes: object = {}, environment: Record<string, string> = { KEY: s3.key.accessKeyId, SECRET: s3.key.secretAccessKey }): ArtifactStore {
  const config = artifactsConfigSchema.parse({ s3: { bucket: s3.bucket, region: s3.region, endpoint: s3.url, prefix: 'jobs', accessKeyIdEnv: 'KEY', secretAccessKeyEnv: 'SECRET', ...changes } })
  return createArtifactStore(config, { environment })
}

function object(key: string, bytes: Buffer, content: StoredObject['content'] = { bytes }): StoredObject {
  return { key, sizeBytes: bytes.length, mediaType: 'text/html', sha256: createHash('sha256').update(bytes).digest('hex'), content }
}

const names = ['a.txt', "it's odd \"q\" $(x) +&?#%41 *.html", 'ü/日本語 🙂.html', '-rf', 'back\\slash', '...']

describe('S3', () => {
  it('gets bytes and files under names of any kind, signed with their digest, and gives links that open them for a while', async () => {
    const store = s3Store()
    const bytes = randomBytes(6 * 1024 * 1024)
    await writeFile(join(folder, 'large'), bytes)
    for (const name of names) expect(await store.put(object(`j/1.1/${name}`, Buffer.from(name)), options)).toBe(`s3://artifacts/jobs/j/1.1/${name}`)
    const where = await store.put(object('j/1.1/large', bytes, { file: join(folder, 'large') }), options)
    expect([...s3.objects.keys()].sort()).toEqual([...names, 'large'].map((name) => `jobs/j/1.1/${name}`).sort())
    expect(s3.objects.get('jobs/j/1.1/large')?.bytes.equals(bytes)).toBe(true)
    expect(s3.objects.get('jobs/j/1.1/a.txt')).toMatchObject({ contentType: 'text/html', metadata: { sha256: createHash('sha256').update('a.txt').digest('hex') } })
    for (const name of names) {
      const answer = await fetch(await store.link(`s3://artifacts/jobs/j/1.1/${name}`, { expiresInSeconds: 60 }))
      expect([answer.status, answer.headers.get('content-disposition'), await answer.text()]).toEqual([200, 'attachment', name])
    }
    const link = await store.link(where, { expiresInSeconds: 60 })
    s3.now = () => Date.now() + 61_000
    expect((await fetch(link)).status).toBe(403)
    s3.now = Date.now
    // Its key is in none of it.
    expect(link).not.toContain(s3.key.secretAccessKey)
    await expect(store.link('s3://artifacts/other/j', { expiresInSeconds: 60 })).rejects.toThrow(/not in s3:\/\/artifacts\/jobs\//)
    await expect(store.link(pathToFileURL('/etc/passwd').href, { expiresInSeconds: 60 })).rejects.toThrow(/not in/)
    expect(await store.check(options)).toEqual([])
    store.close()
  })

  it('is asked again when it fails for a moment, also in the middle of a file', async () => {
    const store = s3Store()
    const bytes = randomBytes(300_000)
    await writeFile(join(folder, 'again'), bytes)
    const faults = [{ status: 503, code: 'SlowDown' }, 'drop', { status: 500, code: 'InternalError' }] as const
    let asked = 0
    s3.fault = () => faults[asked++]
    await store.put(object('j/1.1/again', bytes, { file: join(folder, 'again') }), options)
    s3.fault = undefined
    expect(s3.objects.get('jobs/j/1.1/again')?.bytes.equals(bytes)).toBe(true)
    store.close()
  })

  it.each<readonly [string, () => ArtifactStore, S3Server['fault'] | undefined, object, RegExp]>([
    ['a wrong secret', () => s3Store({}, { KEY: s3.key.accessKeyId, SECRET: 'wrong' }), undefined, { kind: 'auth', owner: 'consumer-keys', code: 'SWY_CONSUMER_KEY_REFUSED' }, /refuses the consumer's key.*SignatureDoesNotMatch, 403/],
    ['a wrong key', () => s3Store({}, { KEY: 'AKIAOTHER', SECRET: 'x' }), undefined, { kind: 'auth', owner: 'consumer-keys' }, /InvalidAccessKeyId/],
    ['no bucket', () => s3Store({ bucket: 'nobodys' }), undefined, { kind: 'invalid', owner: 'consumer-configuration', code: 'SWY_CONSUMER_CONFIGURATION' }, /no such bucket there \(NoSuchBucket, 404\)/],
    ['another region', () => s3Store({ region: 'eu-west-1' }), undefined, { kind: 'invalid', owner: 'consumer-configuration' }, /AuthorizationHeaderMalformed/],
    ['nobody there', () => s3Store({ endpoint: 'http://127.0.0.1:9' }), undefined, { kind: 'transient', owner: 'deployment', code: 'SWY_DEPLOYMENT' }, /ECONNREFUSED/],
    ['5xx for long', () => s3Store(), () => ({ status: 503, code: 'SlowDown' }), { kind: 'transient', owner: 'deployment' }, /SlowDown, 503/],
    ['no answer', () => s3Store(), () => 'hang', { kind: 'transient', owner: 'deployment' }, /does not answer/],
  ])('is told apart: %s', async (_what, make, fault, expected, said) => {
    const store = make()
    s3.fault = fault
    const error = await store.put(object('j/1.1/x', Buffer.from('x')), { timeoutMs: fault?.({ method: '', key: '' }) === 'hang' ? 300 : 20_000 }).catch((thrown: unknown) => thrown)
    s3.fault = undefined
    expect(error).toBeInstanceOf(InfrastructureError)
    expect(error).toMatchObject(expected)
    expect((error as Error).message).toMatch(said)
    expect((error as Error).message).not.toContain(s3.key.secretAccessKey)
    store.close()
  })
})

describe('a folder', () => {
  it('gets the same, whole or not at all, and a second time in place of the first', async () => {
    const store = createArtifactStore(artifactsConfigSchema.parse({ folder: 'store' }), { directory: folder })
    for (const name of names) {
      const where = await store.put(object(`j/1.1/${name}`, Buffer.from(name)), options)
      expect(await readFile(fileURLToPath(where), 'utf8')).toBe(name)
      expect(await store.link(where, { expiresInSeconds: 1 })).toBe(where)
    }
    await writeFile(join(folder, 'large'), 'large')
    await store.put(object('j/1.1/a.txt', Buffer.from('large'), { file: join(folder, 'large') }), options)
    expect(await readFile(join(folder, 'store', 'j', '1.1', 'a.txt'), 'utf8')).toBe('large')
    expect(await readdir(join(folder, 'store', '.incoming'))).toEqual([])
    await symlink('/etc/passwd', join(folder, 'store', 'j', 'led-out'))
    for (const where of ['file:///etc/passwd', pathToFileURL(join(folder, 'store', '..', 'large')).href, pathToFileURL(join(folder, 'store', 'j', 'led-out')).href, 's3://a/b']) {
      await expect(store.link(where, { expiresInSeconds: 1 })).rejects.toThrow(/is not in|leads out of/)
    }
    expect(await store.check(options)).toEqual([])
  })

  it('that can’t be written to is the consumer’s', async () => {
    await writeFile(join(folder, 'file'), '')
    const store = createArtifactStore(artifactsConfigSchema.parse({ folder: join(folder, 'file') }))
    await expect(store.put(object('j/1.1/x', Buffer.from('x')), options)).rejects.toMatchObject({ owner: 'consumer-configuration', message: expect.stringContaining('ENOTDIR') as string })
    await expect(store.check(options)).rejects.toMatchObject({ owner: 'consumer-configuration' })
  })
})

it.each<readonly [object, RegExp]>([
  [{ artifacts: {} }, /artifacts.*folder/], [{ artifacts: { folder: '' } }, /artifacts/], [{ artifacts: { folder: 'a', s3: { bucket: 'abc' } } }, /artifacts/],
  [{ artifacts: { s3: { bucket: 'Not A Bucket' } } }, /artifacts/], [{ artifacts: { s3: { bucket: 'abc', prefix: '../x' } } }, /artifacts/], [{ artifacts: { s3: { bucket: 'abc', endpoint: 'ftp://x' } } }, /artifacts/],
  [{ artifacts: { s3: { bucket: 'abc', accessKeyIdEnv: 'A' } } }, /artifacts/], [{ artifacts: { folder: 'a', maxFiles: 1001 } }, /artifacts/], [{ artifacts: { folder: 'a', maxFileMiB: 0 } }, /artifacts/],
])('refuses the configuration %j', (config, said) => {
  expect(() => parseConfig(config)).toThrow(said)
})

it('names the variable that a key should be in', () => {
  expect(() => s3Store({}, {})).toThrow('artifacts.s3.accessKeyIdEnv: the environment variable KEY is not set; set it to the key')
})
