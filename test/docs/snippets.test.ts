import { execFile, spawn } from 'node:child_process'
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs'
import { readFile, readdir, symlink, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { parse } from 'yaml'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { loadConfig, parseConfig } from '../../src/config/load.js'
import { createProviders } from '../../src/config/providers.js'
import { generateDevelopmentKeys } from '../../src/embedded/index.js'
import { parseJobSpec } from '../../src/job/spec.js'
import { follow, makePlace, program, type Place, type Run } from '../cli/run-switchyard.js'
import { ownFile } from '../own-programs.js'
import { startCommandService, type CommandService } from '../servers/command-service.js'
import { whole } from '../whole.js'
import { signedHeaders, signersOf } from '../../src/webhooks/signing.js'
import { fencedBlocks, type FencedBlock } from './fenced-blocks.js'

/**
 * Runs every snippet of the documents, in their order, in a folder in which `switchyard dev` runs.
 *
 * - `sh`: each line is run and must exit with 0. JOB_ID stands for the job that was enqueued last.
 * - `ts`: the first line is a comment with the file's name. All of them are type-checked together and each is run.
 * - `json`: tagged `job` or `config`, checked as that, and written to job.json or a configuration.
 * - `text`, or no language at all, is for reading: diagrams, and what needs a Docker engine.
 *
 * docs/quickstart.md has a test of its own; only its types are checked here.
 */
const documents = ['README.md', 'CONTRIBUTING.md', ...readdirSync('docs').filter((name) => name.endsWith('.md') && name !== 'quickstart.md').sort().map((name) => `docs/${name}`)]
const blocks = documents.flatMap(fencedBlocks)
const run = promisify(execFile)
const top = resolve('.')

let place: Place
let dev: Run
let environment: Record<string, string>
let lastJobId = ''
let service: CommandService

beforeAll(async () => {
  place = await makePlace()
  service = await startCommandService()
  await writeFile(join(place.folder, 'hello.txt'), 'hello\n')
  // The document's own line starts it.
  dev = place.run(commandLine('switchyard dev -r acme/web=.'))
  await dev.saw(/Ctrl-C stops everything/)
  const config = JSON.parse(await readFile(join(place.folder, '.switchyard/dev/switchyard.config.json'), 'utf8')) as { redis: { url: string } }
  environment = { SWITCHYARD_REDIS_URL: config.redis.url, PIERRE_PRIVATE_KEY: generateDevelopmentKeys().privateKey }
  await symlink(join(top, 'node_modules'), join(place.folder, 'node_modules'))
  const files = { '': 'index.ts', '/config': 'config/index.ts', '/consumers': 'consumers/index.ts', '/git': 'git/index.ts', '/http': 'http/index.ts', '/monitor': 'monitor/index.ts', '/providers': 'providers/index.ts', '/providers/conformance': 'providers/conformance/index.ts' }
  const pathsOf = (where: (file: string) => string) => Object.fromEntries(Object.entries(files).map(([path, file]) => [`switchyard${path}`, [where(file)]]))
  const compilerOptions = { paths: pathsOf((file) => join(top, 'src', file)), typeRoots: [join(top, 'node_modules/@types')], rootDir: '/' }
  await writeFile(join(place.folder, 'tsconfig.json'), JSON.stringify({ extends: join(top, 'tsconfig.json'), compilerOptions, include: ['*.ts'] }))
  // A package that is installed is built; here its programs get what the tests run.
  await writeFile(join(place.folder, 'programs.json'), JSON.stringify({ extends: './tsconfig.json', compilerOptions: { paths: pathsOf((file) => ownFile(`src/${file}`)) } }))
  await writeFile(join(place.folder, 'package.json'), '{ "type": "module" }')
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await service.close()
  await place.remove()
})

describe.each(documents.filter((document) => blocks.some((block) => block.document === document)))('%s', (document) => {
  const own = blocks.filter((block) => block.document === document)
  it.each(own.map((block) => [`line ${block.line}: ${block.language} ${block.text.split('\n')[0] ?? ''}`, block] as const))('%s', { timeout: 300_000 }, async (_name, block) => {
    const runners: Record<string, (block: FencedBlock) => Promise<void> | void> = { sh: runShell, ts: runTypeScript, json: checkJson, yaml: checkValues, text: () => undefined, '': () => undefined }
    const runner = runners[block.language]
    if (runner === undefined) throw new Error(`${block.document}:${block.line}: "${block.language}" is no language that this test knows; nothing in the documents goes unchecked`)
    await runner(block)
  })
})

it('the TypeScript of the documents passes the type check', { timeout: 120_000 }, async () => {
  const walked = fencedBlocks('docs/quickstart.md').filter(({ language }) => language === 'ts')
  expect(walked).toHaveLength(2)
  for (const [index, { text }] of walked.entries()) await writeFile(join(place.folder, `quickstart-${index}.ts`), text)
  expect(await typeErrors(place.folder)).toBe('')
})

/** Lines that start something which runs until it is stopped, and what it says when it is up. */
const running: readonly [RegExp, RegExp][] = [
  [/^switchyard consume( |$)/, /consumer started/],
  [/^switchyard serve/, /HTTP API: http:\/\/127\.0\.0\.1:\d+/],
  [/^switchyard board/, /http:\/\/127\.0\.0\.1:\d+/],
]

async function runShell(block: FencedBlock): Promise<void> {
  for (const line of block.text.trim().split('\n')) {
    if (['script/demo', 'script/demo --providers e2b,modal,daytona', 'script/demo --agent', 'script/test'].includes(line)) {
      // What test/cli/demo*.test.ts run but for the set-up; the last is what runs this.
      const [script = ''] = line.split(' ')
      accessSync(script, constants.X_OK)
      await run('sh', ['-n', script])
      continue
    }
    if (line.startsWith('switchyard dev')) {
      expect(line).toBe('switchyard dev -r acme/web=.')
      continue
    }
    if (line.startsWith('npx vitest')) {
      const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST')))
      await run('sh', ['-c', line], { cwd: top, env: { ...inherited, NODE_OPTIONS: '' } })
      continue
    }
    expect(line, 'a command that this test knows how to run').toMatch(/^switchyard /)
    const words = commandLine(line.replaceAll('JOB_ID', lastJobId))
    const up = running.find(([pattern]) => pattern.test(line))?.[1]
    if (up === undefined) {
      // That each ends by itself as a process is for test/cli/commands.test.ts.
      const { code, stdout, stderr } = await place.command(words, environment)
      expect(code, `${line}\n${stdout}\n${stderr}`).toBe(0)
      lastJobId = /^job ([\w-]+): waiting/m.exec(stderr)?.[1] ?? lastJobId
      continue
    }
    const started = place.run(words, environment)
    await started.saw(up)
    started.child.kill('SIGTERM')
    expect(await started.ended, `${line}\n${started.stdout()}\n${started.stderr()}`).toBe(0)
  }
}

/** Values of the chart: test/deploy/helm.test.ts renders them where there is helm. */
async function checkValues(block: FencedBlock): Promise<void> {
  expect(block.text).toMatch(/^# my-values\.yaml\n/)
  const path = join(place.folder, 'values-config.json')
  await writeFile(path, JSON.stringify((parse(block.text) as { config: unknown }).config))
  const { warnings } = await loadConfig({ path, environment: {} })
  expect(warnings).toEqual([])
}

async function runTypeScript(block: FencedBlock): Promise<void> {
  const name = /^\/\/ ([\w.-]+\.ts)\n/.exec(block.text)?.[1]
  if (name === undefined) throw new Error(`${block.document}:${block.line}: its first line must name its file, such as "// producer.ts"`)
  const path = join(place.folder, name)
  await writeFile(path, block.text)
  if (name === 'switchyard.config.ts') {
    const { config } = await loadConfig({ path, environment: {} })
    const made = await createProviders(config.providers, { environment: {} })
    expect(made.map(({ provider }) => provider.kind)).toEqual(['e2b', 'modal', 'daytona', 'local'])
    await Promise.all(made.map(({ provider }) => provider.close()))
  } else if (name === 'webhooks.config.ts') {
    const { config } = await loadConfig({ path, environment: {} })
    expect(config.webhooks.endpoints.map(({ events }) => events)).toEqual([['started', 'completed']])
  } else if (name === 'receiver.ts') {
    await tryReceiver(path)
  } else if (name === 'my-provider.ts') {
    expect(block.text.trim().split('\n').length, 'an adapter in under 150 lines').toBeLessThan(150)
    await tryExampleProvider(block.document)
  } else if (name.endsWith('.test.ts')) {
    await runUsersTest(name)
  } else if (name === 'events.ts' || name === 'life.ts') {
    const program = startProgram(path)
    await program.saw(/dev\.switchyard\.job\.\w+ [\w-]+ [\d.]+/)
    program.child.kill('SIGTERM')
    expect(await program.ended, program.stderr()).toBe(0)
  } else if (name === 'http.ts') {
    const program = startProgram(path)
    expect(await program.ended, program.stderr()).toBe(0)
    expect(program.stdout()).toMatch(/^event: log\ndata: \{.*"text":"over HTTP\\n"[^]*event: end\ndata: \{"state":"succeeded"\}/m)
  } else if (name === 'embedded-consumer.ts') {
    const program = startProgram(path)
    await program.saw(/^consumer \S+ is ready$/m)
    program.child.kill('SIGTERM')
    expect(await program.ended, program.stderr()).toBe(0)
  } else if (name === 'board.ts') {
    const program = startProgram(path)
    expect(await program.ended, program.stderr()).toBe(0)
    expect(program.stdout(), program.stderr()).toBe('200\n')
  } else {
    const program = startProgram(path)
    expect(await program.ended, program.stderr()).toBe(0)
    expect(program.stdout()).toMatch(/agent at work\n[^]*fixed\nsucceeded agent\/[\w-]+ [0-9a-f]{40}\n/)
  }
}

/** The type errors of a folder's files, by what checks the sources. */
async function typeErrors(folder: string): Promise<string> {
  await writeFile(join(folder, '.oxlintrc.json'), JSON.stringify({ categories: { correctness: 'off' }, options: { typeAware: true, typeCheck: true } }))
  const files = (await readdir(folder)).filter((name) => name.endsWith('.ts'))
  expect(files.length).toBeGreaterThan(5)
  const run = follow(spawn(process.execPath, [join(top, 'node_modules/oxlint/bin/oxlint'), '--config', '.oxlintrc.json', '--format', 'unix', ...files], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] }))
  return (await run.ended) === 0 ? '' : run.stdout() + run.stderr()
}

/** Runs a file of the documents as a user's program. */
function startProgram(path: string): Run {
  const tsx = join(top, 'node_modules/tsx/dist/loader.mjs')
  const env = { ...process.env, ...environment, NODE_OPTIONS: '', TSX_DISABLE_CACHE: '1', TSX_TSCONFIG_PATH: join(place.folder, 'programs.json') }
  return follow(spawn(process.execPath, ['--import', tsx, path], { cwd: place.folder, env, stdio: ['ignore', 'pipe', 'pipe'] }))
}

/** The document's receiver takes what is signed with its secret, and nothing else. */
async function tryReceiver(path: string): Promise<void> {
  const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
  vi.stubEnv('BILLING_WEBHOOK_SECRET', secret)
  vi.stubEnv('PORT', '0')
  const program = startProgram(path)
  const port = /listens at (\d+)/.exec(await program.saw(/listens at \d+/).then(() => program.stdout()))?.[1] ?? ''
  const body = JSON.stringify({ id: 'job.1', type: 'dev.switchyard.job.succeeded' })
  const headers = signedHeaders(signersOf('NAME', () => secret), 'job.1', body, Date.now())
  const post = async (text: string) => (await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', headers, body: text })).status
  expect([await post(body), await post(`${body} `)]).toEqual([204, 401])
  program.child.kill('SIGKILL')
  await program.ended
}

/** The document's adapter from its own configuration, at a service that refuses: each refusal is the kind that it should be. */
async function tryExampleProvider(document: string): Promise<void> {
  const entries = blocks.filter((other) => other.document === document && other.tag === 'config').flatMap((other) => parseConfig(JSON.parse(other.text)).providers)
  const entry = entries.filter(({ type }) => type === 'custom')[0]
  if (entry === undefined) throw new Error(`${document}: configures no provider of the type "custom"`)
  const at = async (url: string, key: string) => {
    vi.stubEnv('MY_SERVICE_KEY', key)
    const [made] = await createProviders([{ ...entry, options: { url } }], { directory: place.folder })
    if (made === undefined) throw new Error('no provider was made')
    return made.provider
  }
  const options = { timeoutMs: 20_000 }
  const request = { name: 'one', tags: {}, image: undefined, resources: {}, lifetimeMs: 60_000, network: 'open' as const, gitHosts: [] }
  const provider = await at(service.url, service.key)
  expect(provider.kind).toBe('mine')
  await expect((await at('http://127.0.0.1:2', 'any')).check(options)).rejects.toMatchObject({ kind: 'provider-down' })
  await expect((await at(service.url, 'wrong')).check(options)).rejects.toMatchObject({ kind: 'auth', source: 'mine' })
  await expect(provider.create({ ...request, image: 'none' }, options)).rejects.toMatchObject({ kind: 'invalid' })
  service.refuseCreates = 'full'
  await expect(provider.create(request, options)).rejects.toMatchObject({ kind: 'capacity' })
  service.refuseCreates = 'slow_down'
  await expect(provider.create(request, options)).rejects.toMatchObject({ kind: 'rate-limited', retryAfterMs: 2_000 })
  service.refuseCreates = undefined
}

async function runUsersTest(name: string): Promise<void> {
  const aliases = ['providers/conformance', 'providers'].map((path) => ({ find: `switchyard/${path}`, replacement: join(top, 'src', path, 'index.ts') }))
  await writeFile(join(place.folder, 'vitest.config.mjs'), `export default { cacheDir: 'cache', resolve: { alias: ${JSON.stringify(aliases)} }, test: { include: ['${name}'] } }`)
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('VITEST')))
  // CI has a command, a killed sandbox, a step and a push; all cases of all providers are tried by test/providers/*-conformance.test.ts.
  const cases = whole ? [] : ['-t', 'returns exit codes|knows nothing of|kills a sandbox twice|runs a step in its folder|commits and pushes']
  const { stdout } = await run(process.execPath, [join(top, 'node_modules/vitest/vitest.mjs'), 'run', ...cases], { cwd: place.folder, env: { ...inherited, MY_SERVICE_URL: service.url, MY_SERVICE_KEY: service.key, NODE_OPTIONS: '', NO_COLOR: '1', FORCE_COLOR: '', TMPDIR: place.temporary } })
  expect(stdout).toMatch(/Tests.* \d+ passed/)
}

async function checkJson(block: FencedBlock): Promise<void> {
  const value: unknown = JSON.parse(block.text)
  if (block.tag === 'job') {
    parseJobSpec(value)
    await writeFile(join(place.folder, 'job.json'), block.text)
  } else if (block.tag === 'config') parseConfig(value)
  else if (block.tag === 'mcp') await tryMcpServers(value as { mcpServers: Record<string, { command: string; args: string[] }> })
  else throw new Error(`${block.document}:${block.line}: tag it "json job", "json config" or "json mcp", so that it is checked`)
}

/** A host's configuration of MCP servers: each is started and asked for its tools. */
async function tryMcpServers({ mcpServers }: { mcpServers: Record<string, { command: string; args: string[] }> }): Promise<void> {
  for (const { command, args } of Object.values(mcpServers)) {
    expect(command).toBe('switchyard')
    const [file, ...before] = program
    const client = new Client({ name: 'docs', version: '1' })
    await client.connect(new StdioClientTransport({ command: file, args: [...before, ...args], cwd: place.folder, env: { PATH: process.env['PATH'] ?? '', TMPDIR: place.temporary } }))
    expect((await client.listTools()).tools.map(({ name }) => name)).toContain('enqueue_job')
    await client.close()
  }
}

/** Splits a command line at spaces, with the quoting that the documents use. Drops the program's name. */
function commandLine(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2] ?? '').slice(1)
}

describe('what the documents say of the repository', () => {
  it('every file of the sources that they name is there', () => {
    for (const document of documents) {
      for (const [, path] of readDocument(document).matchAll(/`((?:src|test|docs|deploy|schema|script)\/[\w./-]+)`/g)) {
        expect(existsSync(path ?? ''), `${document} names ${path ?? ''}`).toBe(true)
      }
    }
  })

  it('every variable, setting and default of the configuration is in docs/operating.md', async () => {
    const { environmentFields } = await import('../../src/config/environment.js')
    const text = readDocument('docs/operating.md')
    for (const name of Object.keys(environmentFields)) expect(text).toContain(`\`${name}\``)
    const config = parseConfig({}) as unknown as Record<string, unknown>
    for (const [, fields, defaults] of text.matchAll(/^\| (`[\w.]+`(?:, `[\w.]+`)*) \| ([^|]+) \|/gm)) {
      const names = [...(fields ?? '').matchAll(/`([\w.]+)`/g)].map((match) => match[1] ?? '')
      const values = (defaults ?? '').split(', ').map((value) => value.replaceAll('`', ''))
      for (const [index, name] of names.entries()) {
        const actual = name.split('.').reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], config)
        const said = values[index] === 'none' ? [undefined, '[]', '{}'] : [values[index]]
        expect(said, name).toContain(typeof actual === 'string' || actual === undefined ? actual : JSON.stringify(actual))
      }
    }
    for (const group of Object.keys(config)) expect(text).toContain(`\`${group}`)
  })

  it('CONTRIBUTING fits on a page', () => {
    expect(readDocument('CONTRIBUTING.md').split('\n').length).toBeLessThanOrEqual(50)
  })
})

function readDocument(document: string): string {
  return readFileSync(document, 'utf8')
}
