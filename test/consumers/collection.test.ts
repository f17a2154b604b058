import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { FolderStore } from '../../src/artifacts/folder-store.js'
import { Collection } from '../../src/consumers/collecting/collection.js'
import { FenceLostError, InfrastructureError } from '../../src/job/errors.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-collection-'))
  await mkdir(join(folder, 'temporary'))
  vi.stubEnv('TMPDIR', join(folder, 'temporary'))
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await rm(folder, { recursive: true, force: true, maxRetries: 10 })
})

function collection(limits: object = {}, parts: Partial<ConstructorParameters<typeof Collection>[0]> = {}): Collection {
  const store = new FolderStore(join(folder, 'store'), { maxFileBytes: 1_000_000, maxJobBytes: 2_000_000, maxFiles: 3, ...limits })
  return new Collection({ store, folder: 'j/1.1', mask: (text) => text.replaceAll('hunter22', '***'), confirmHeld: () => Promise.resolve(), signal: new AbortController().signal, leftMs: () => 10_000, ...parts })
}

async function* pieces(...texts: (string | Buffer | Error)[]): AsyncGenerator<Buffer> {
  for (const text of texts) {
    if (text instanceof Error) throw text
    yield await Promise.resolve(Buffer.from(text))
  }
}

const lost = new InfrastructureError({ kind: 'sandbox-lost', owner: 'sandbox', source: 'p', message: 'p: gone' })

it('counts against its limits what was stored, and not what was only to be', async () => {
  const all = collection()
  const files = ['a', 'b', 'c'].map((path) => ({ path, sizeBytes: 900_000 }))
  // By bytes, in the order of the names.
  expect(all.admit([...files].reverse()).map(({ path }) => path)).toEqual(['a', 'b'])
  await all.take(files[0]!, pieces(Buffer.alloc(900_000)), 'sandbox')
  await expect(all.take(files[1]!, pieces(Buffer.alloc(1_000), lost), 'sandbox')).rejects.toThrow(lost)
  await all.settle()
  // The sandbox is gone: from elsewhere as much as is left.
  expect(all.admit(['a', 'd', 'e'].map((path) => ({ path, sizeBytes: 500_000 }))).map(({ path }) => path)).toEqual(['d', 'e'])
  await all.take({ path: 'd', sizeBytes: 3 }, pieces('d', 'd', 'd'), 'checkpoint')
  await all.settle()
  const { artifacts, artifactsMissed } = all.collected
  expect(artifacts.map(({ path, from, sizeBytes }) => `${path} ${from} ${sizeBytes}`)).toEqual(['a sandbox 900000', 'd checkpoint 3'])
  expect(artifactsMissed).toMatchObject([{ path: 'c', owner: 'job' }])
  // Nothing of it stays in the folder for temporary files.
  expect(await readdir(join(folder, 'temporary'))).toEqual([])
})

it('stores the bytes that went by, never more than were told of, and nothing under a name that is none', async () => {
  const all = collection()
  await all.take({ path: 'deep/a b.txt', sizeBytes: 5 }, pieces('he', 'llo'), 'sandbox')
  await expect(all.take({ path: 'liar', sizeBytes: 5 }, pieces('hello', '!'), 'sandbox')).rejects.toThrow(/more than 5 bytes/)
  await all.settle()
  const [made] = all.collected.artifacts
  expect(made).toMatchObject({ path: 'deep/a b.txt', sha256: '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824', mediaType: 'text/plain' })
  expect(await readFile(fileURLToPath(made!.where), 'utf8')).toBe('hello')
  expect(all.admit(['../x', '/etc/passwd', 'a\nb', 'x/hunter22'].map((path) => ({ path, sizeBytes: 1 })))).toEqual([])
  expect(all.collected.artifactsMissed).toHaveLength(4)
  expect(JSON.stringify(all.collected)).not.toContain('hunter22')
})

it('names the first hundred that were missed, and how many more there were', () => {
  const all = collection()
  for (let index = 0; index < 250; index++) all.miss(`file-${index}`, 'it is a link', 'job')
  all.miss('file-0', 'twice', 'job')
  expect(all.collected).toMatchObject({ artifactsMissedMore: 150, artifactsMissed: { length: 100 } })
})

it('writes nothing once the job is another consumer’s', async () => {
  const all = collection({}, { confirmHeld: () => Promise.reject(new FenceLostError('j')) })
  await all.take({ path: 'a', sizeBytes: 1 }, pieces('a'), 'sandbox')
  await expect(all.settle()).rejects.toThrow(FenceLostError)
  expect(await readdir(folder)).toEqual(['temporary'])
})

it('sums a report up once, however often it is read', async () => {
  const all = collection()
  const report = '<testsuite><testcase name="hunter22"><failure message="no"/></testcase></testsuite>'
  for (const from of ['sandbox', 'checkpoint'] as const) await all.take({ path: 'junit.xml', sizeBytes: report.length }, pieces(report), from)
  await all.take({ path: 'other.XML', sizeBytes: report.length }, pieces(report), 'sandbox')
  await all.settle()
  expect(all.collected.tests).toMatchObject({ reports: 2, tests: 2, failures: 2, failing: [{ name: '***' }, { name: '***' }] })
})
