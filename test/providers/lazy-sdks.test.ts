import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { loaderArgs, ownFile } from '../own-programs.js'

/** Which SDKs a process really loads: Node's own loader writes them down. */
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-lazy-'))
})
afterAll(() => rm(folder, { recursive: true, maxRetries: 10 }))

const sdks = ['e2b', 'modal', '@daytona/sdk']

async function sdksLoadedBy(script: string): Promise<string[]> {
  const loads = join(folder, 'loads')
  await writeFile(loads, '')
  const hook = `import { appendFileSync } from 'node:fs'
export async function load(url, context, next) {
  appendFileSync(${JSON.stringify(loads)}, url + '\\n')
  return next(url, context)
}`
  const register = `import { register } from 'node:module'; register(${JSON.stringify(dataUrl(hook))})`
  await promisify(execFile)(process.execPath, [...loaderArgs, '--import', dataUrl(register), '--input-type=module', '--eval', script], {
    env: { PATH: process.env['PATH'], TMPDIR: folder, MODAL_CONFIG_PATH: '/dev/null' },
  })
  const urls = await readFile(loads, 'utf8')
  expect(urls).toContain('/src/')
  return sdks.filter((name) => urls.includes(`/node_modules/${name}/`))
}

const dataUrl = (script: string) => `data:text/javascript,${encodeURIComponent(script)}`
const source = (path: string) => JSON.stringify(pathToFileURL(ownFile(`src/${path}`)).href)

const allThree = `
  const { createProviders } = await import(${source('config/providers.ts')})
  const limit = { sandboxes: 1 }
  const environment = { E2B_API_KEY: 'k', MODAL_TOKEN_ID: 'k', MODAL_TOKEN_SECRET: 'k', DAYTONA_API_KEY: 'k' }
  const nowhere = 'http://127.0.0.1:1'
  const made = await createProviders([
    { name: 'e2b', type: 'e2b', limit, apiUrl: nowhere, sandboxUrl: nowhere },
    { name: 'modal', type: 'modal', limit, serverUrl: nowhere },
    { name: 'daytona', type: 'daytona', limit, apiUrl: nowhere },
  ], { environment })
`

it('a producer, a consumer, the providers’ interface and the command load none', { timeout: 60_000 }, async () => {
  const modules = ['index.ts', 'producers/index.ts', 'consumers/index.ts', 'providers/index.ts', 'providers/conformance/index.ts', 'config/index.ts', 'cli/start-consumer.ts']
  expect(await sdksLoadedBy(modules.map((module) => `await import(${source(module)})`).join('\n'))).toEqual([])
})

it('providers that are configured but not called load none', { timeout: 60_000 }, async () => {
  expect(await sdksLoadedBy(`${allThree}await Promise.all(made.map(({ provider }) => provider.close()))`)).toEqual([])
})

it.each([['e2b', ['e2b']], ['modal', ['modal']], ['daytona', ['@daytona/sdk']]])('a call of %s loads its SDK and no other', { timeout: 60_000 }, async (name, loaded) => {
  const script = `${allThree}
    const one = made.find(({ provider }) => provider.name === ${JSON.stringify(name)}).provider
    // Nobody listens there: the SDK is loaded and its call fails.
    await one.check({ timeoutMs: 3_000 }).catch(() => undefined)
    process.exit(0)`
  expect(await sdksLoadedBy(script)).toEqual(loaded)
})
