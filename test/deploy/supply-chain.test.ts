import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { spanning, whole } from '../whole.js'

const run = promisify(execFile)
const manifest = z.looseObject({ version: z.string(), dependencies: z.record(z.string(), z.string()), devDependencies: z.record(z.string(), z.string()) }).parse(JSON.parse(readFileSync('package.json', 'utf8')))
const lock = z
  .looseObject({ packages: z.record(z.string(), z.looseObject({ version: z.string().optional(), integrity: z.string().optional(), dev: z.boolean().optional(), optional: z.boolean().optional(), peer: z.boolean().optional() })) })
  .parse(JSON.parse(readFileSync('package-lock.json', 'utf8')))
const component = z.looseObject({ name: z.string(), version: z.string(), purl: z.string(), hashes: z.array(z.looseObject({ alg: z.string(), content: z.string() })).min(1), licenses: z.array(z.unknown()).optional() })
const billSchema = z.looseObject({ bomFormat: z.literal('CycloneDX'), metadata: z.looseObject({ component: z.looseObject({ name: z.string(), version: z.string() }) }), components: z.array(component), dependencies: z.array(z.unknown()) })

/** What script/sbom.mjs prints. It asks npm, which takes seconds. */
const first = run(process.execPath, ['script/sbom.mjs'], { maxBuffer: 64 * 1024 * 1024 }).then(({ stdout }) => stdout)
const billOf = async (format: string) => (await run(process.execPath, ['script/sbom.mjs', format], { maxBuffer: 64 * 1024 * 1024 })).stdout

describe('the bill of materials', () => {
  it('names everything that is installed with Switchyard, as the lock file has it, and nothing else', async () => {
    const bill = billSchema.parse(JSON.parse(await first))
    expect(bill.metadata.component).toMatchObject({ name: 'switchyard', version: manifest.version })
    const listed = new Map(bill.components.map((one) => [`${one.name}@${one.version}`, one]))
    for (const name of Object.keys(manifest.dependencies)) {
      const { version = '', integrity = '' } = lock.packages[`node_modules/${name}`] ?? {}
      const one = listed.get(`${name}@${version}`)
      expect((one?.hashes ?? []).map(({ content }) => content), name).toContain(Buffer.from(integrity.replace(/^sha512-/, ''), 'base64').toString('hex'))
    }
    for (const name of Object.keys(manifest.devDependencies)) expect(bill.components.map((one) => one.name)).not.toContain(name)
    // Whatever the lock file has that is not for development alone.
    const called = (path: string) => path.replace(/^.*node_modules\//, '')
    const installed = Object.entries(lock.packages).filter(([path, { dev }]) => path !== '' && dev !== true && !(called(path) in manifest.devDependencies))
    expect([...listed.keys()].sort()).toEqual([...new Set(installed.map(([path, { version }]) => `${called(path)}@${version ?? ''}`))].sort())
  })

  it('is the same for the same lock file, also as SPDX', async () => {
    for (const format of ['cyclonedx', 'spdx']) {
      const one = await (format === 'cyclonedx' ? first : billOf(format))
      expect(one).toContain('"switchyard')
      // What npm has differ from one call to the next: a number and the time.
      expect(one.replaceAll('1970-01-01T00:00:00Z', '')).not.toMatch(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT\d\d/)
      // It is asked for twice by `npm run test:long`.
      if (whole) expect(await billOf(format)).toBe(one)
    }
    await expect(run(process.execPath, ['script/sbom.mjs', 'pdf'])).rejects.toMatchObject({ code: 2 })
  })
})

describe('what is asked of a registry', () => {
  const advisory = { id: 1, url: 'https://example.com/1', title: 'Bad', severity: 'high', vulnerable_versions: '*', cwe: [], cvss: { score: 9, vectorString: null } }
  // CI has one that fails and one that is let pass; no answer is what no registry gives, below.
  it.each(spanning<[string, number, object, number, RegExp]>([
    ['a known fault fails, and is named', 200, { hono: [advisory] }, 1, /audit: hono \*: high[^]*[1-9] of them high or critical/],
    ['a lesser one does not', 200, { hono: [{ ...advisory, severity: 'low' }] }, 0, /[1-9] known faults, 0 of them/],
    ['none is content', 200, {}, 0, /0 known faults/],
    ['a registry that answers no such question is content, and says so', 405, {}, 0, /no registry answered/],
  ], 'a known fault fails, and is named', 'a lesser one does not'))('%s', async (_what, status, answer, code, words) => {
    const server = createServer((request, response) => {
      request.resume()
      const name = decodeURIComponent((request.url ?? '/').slice(1))
      const packument = { name, 'dist-tags': { latest: '9.9.9' }, versions: { '9.9.9': { name, version: '9.9.9' } } }
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(request.method === 'GET' ? packument : answer))
    })
    // npm keeps what it heard of a fault.
    const cache = await mkdtemp(join(tmpdir(), 'switchyard-npm-'))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    try {
      const registry = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
      const ended = await run('script/audit', [`--registry=${registry}`], { env: { ...process.env, npm_config_cache: cache } }).then(({ stdout }) => ({ code: 0, stdout }), (error: unknown) => error as { code: number; stdout: string })
      expect([ended.code, ended.stdout]).toEqual([code, expect.stringMatching(words)])
    } finally {
      server.close()
      server.closeAllConnections()
      await rm(cache, { recursive: true, force: true, maxRetries: 10 })
    }
  })
  it('no registry at all is content too', async () => {
    const { stdout } = await run('script/audit', ['--registry=http://127.0.0.1:1/', '--fetch-retries=0'])
    expect(stdout).toContain('no registry answered')
  })
  it('CI asks it', () => {
    expect(readFileSync('.ci/run', 'utf8')).toContain('script/audit')
  })
})

describe('SECURITY.md', () => {
  const text = readFileSync('SECURITY.md', 'utf8')
  it('names tests that there are, for every door', () => {
    const rows = text.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| door'))
    expect(rows.length).toBeGreaterThan(10)
    for (const row of rows) {
      const tests = [...row.matchAll(/`(test\/[\w./-]+)`/g)].map(([, path]) => path ?? '')
      expect(tests.length, row).toBeGreaterThan(0)
      for (const path of tests) expect(existsSync(path) || existsSync(`${path}.test.ts`), path).toBe(true)
    }
    for (const letter of 'STRIDE') expect(rows.some((row) => (row.split('|')[2] ?? '').includes(letter)), letter).toBe(true)
  })
  it('is found from the documents', () => {
    for (const path of ['README.md', 'docs/security.md']) expect(readFileSync(path, 'utf8'), path).toMatch(/\]\((\.\.\/)?SECURITY\.md\)/)
  })
})

describe('what is taken from elsewhere', () => {
  it('base images are named by digest', () => {
    const images = [...readFileSync('deploy/Dockerfile', 'utf8').matchAll(/^FROM (\S+)/gm), ...readFileSync('docker-compose.yml', 'utf8').matchAll(/^ +image: (\S+)$/gm)].map(([, image]) => image ?? '')
    expect(images.length).toBeGreaterThan(2)
    for (const image of images) if (image !== 'switchyard') expect(image).toMatch(/^[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}$/)
  })
  it('actions, where there are workflows, are named by commit', () => {
    const workflows = existsSync('.github/workflows') ? readdirSync('.github/workflows') : []
    for (const name of workflows) {
      for (const [, action] of readFileSync(`.github/workflows/${name}`, 'utf8').matchAll(/uses: +(\S+)/g)) expect(action, name).toMatch(/^(\.\/|.*@[0-9a-f]{40}$)/)
    }
  })
  it('every package of the lock file has a checksum', () => {
    for (const [path, { integrity }] of Object.entries(lock.packages)) if (path !== '') expect(integrity, path).toMatch(/^sha512-/)
  })
})
