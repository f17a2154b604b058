import { execFile, spawn } from 'node:child_process'
import { chmod, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { delimiter, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generateDevelopmentKeys, startCodeStorage, startRedis, type CodeStorageServer, type EmbeddedRedis } from '../../src/embedded/index.js'
import { CodeStorageHost, TokenMinter } from '../../src/git/index.js'
import { follow, makePlace, type Place, type Run } from '../cli/run-switchyard.js'
import { findGo, findPython } from '../clients/languages.js'
import { areCompiled, loaderArgs, ownFile } from '../own-programs.js'
import { startForgeServer, type ForgeServer } from '../servers/forges/server.js'
import { fencedBlocks } from './fenced-blocks.js'

/**
 * Walks docs/quickstart.md as a newcomer does, with its own lines and files: a consumer and a server by the command line, then each language's
 * program, which must print the job's output, the verified webhook and the pull request. GitHub is a local git host and a server that follows GitHub's API.
 * The types of its TypeScript are checked with those of the other documents.
 */
const document = 'docs/quickstart.md'
const top = resolve('.')
const run = promisify(execFile)
const blocks = fencedBlocks(document)
const [python, go] = await Promise.all([findPython(), findGo()])
const timeout = 240_000

let place: Place
let redis: EmbeddedRedis
let storage: CodeStorageServer
let forge: ForgeServer
let environment: Record<string, string>
let shell: (line: string, folder?: string, more?: Readonly<Record<string, string>>) => Run
let consumer: Run
let server: Run

/** The lines of the document that begin so. */
function lines(start: string): string[] {
  return blocks.filter(({ language }) => language === 'sh').flatMap(({ text }) => text.trim().split('\n')).filter((line) => line.startsWith(start)).map((line) => line.replaceAll('CHECKOUT', top))
}

function program(file: string): string {
  const block = blocks.find(({ text }) => /^(?:\/\/|#) ([\w.-]+)\n/.exec(text)?.[1] === file)
  if (block === undefined) throw new Error(`${document}: has no file ${file}`)
  return block.text
}

async function done(line: string, folder?: string, more?: Readonly<Record<string, string>>): Promise<string> {
  const started = shell(line, folder, more)
  expect(await started.ended, `${line}\n${started.stdout()}\n${started.stderr()}`).toBe(0)
  return started.stdout()
}

beforeAll(async () => {
  const keys = generateDevelopmentKeys()
  place = await makePlace()
  // One token pushes and opens pull requests, as at GitHub.
  const { token } = await new TokenMinter({ org: 'acme', privateKey: keys.privateKey }).mint({ repository: 'acme/web', scopes: ['git:write'], ttlSeconds: 3_600 })
  ;[redis, storage, forge] = await Promise.all([startRedis(), startCodeStorage({ dataDir: join(place.folder, 'storage'), org: 'acme', publicKeys: [keys.privateKey] }), startForgeServer('github', token)])
  await seed(keys.privateKey)
  const programs = join(place.folder, 'bin')
  await mkdir(programs)
  const command = areCompiled ? [process.execPath, ...loaderArgs, ownFile('src/cli/main.ts')] : [resolve('script/switchyard')]
  await writeFile(join(programs, 'switchyard'), `#!/bin/sh\nexec ${command.map((word) => `'${word}'`).join(' ')} "$@"\n`)
  await chmod(join(programs, 'switchyard'), 0o755)
  environment = { PATH: `${programs}${delimiter}${process.env['PATH'] ?? ''}`, GIT_URL: storage.url, GITHUB_API_URL: forge.url, GITHUB_TOKEN: token, SWITCHYARD_REDIS_URL: redis.url, XDG_STATE_HOME: join(place.folder, 'state') }
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SWITCHYARD_') && !name.startsWith('VITEST')))
  shell = (line, folder = place.folder, more = {}) => follow(spawn('sh', ['-c', `exec ${line}`], { cwd: folder, env: { ...inherited, NODE_OPTIONS: '', TMPDIR: place.temporary, ...environment, ...more }, stdio: ['ignore', 'pipe', 'pipe'] }))
  await symlink(join(top, 'node_modules'), join(place.folder, 'node_modules'))

  const secret = lines('export QUICKSTART_WEBHOOK_SECRET')[0] ?? ''
  environment['QUICKSTART_WEBHOOK_SECRET'] = (await run('sh', ['-c', `${secret}; printf %s "$QUICKSTART_WEBHOOK_SECRET"`])).stdout
  await writeFile(join(place.folder, 'quickstart.config.ts'), program('quickstart.config.ts'))
  consumer = shell(lines('switchyard consume')[0] ?? '')
  server = shell(lines('switchyard serve')[0] ?? '')
  await Promise.all([consumer.saw(/consumer started/), server.saw(/HTTP API: http/)])
  environment['SWITCHYARD_URL'] = /HTTP API: (\S+)/.exec(server.stdout())?.[1] ?? ''
  environment['SWITCHYARD_API_KEY'] = (await done(lines('switchyard keys')[0] ?? '')).trim()
}, 180_000)

afterAll(async () => {
  for (const started of [consumer, server]) {
    started.child.kill('SIGTERM')
    await started.ended
  }
  await Promise.all([forge.close(), storage.close(), redis.close()])
  await place.remove()
})

async function seed(privateKey: string): Promise<void> {
  const host = new CodeStorageHost({ org: 'acme', privateKey, storageUrl: storage.url, apiUrl: storage.apiUrl })
  await host.client.createRepository('acme/web', 'main', { timeoutMs: 10_000 })
  const folder = join(place.folder, 'seed')
  const git = async (...args: string[]) => await run('git', ['-C', folder, '-c', 'user.name=Test', '-c', 'user.email=test@example.invalid', ...args], { env: { PATH: process.env['PATH'], HOME: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' } })
  await mkdir(folder)
  await git('init', '-q', '-b', 'main')
  await writeFile(join(folder, 'hello.txt'), 'hello\n')
  await git('add', '.')
  await git('commit', '-qm', 'Begin')
  const access = await host.writeAccess('acme/web', { branch: 'main' })
  const target = new URL(access.url.replace('+ephemeral.git', '.git'))
  target.username = access.username
  target.password = access.token
  await git('push', '-q', target.href, 'main')
}

/** What the document says that each program prints, and what GitHub then has. */
function expectWalked(output: string, language: string): void {
  expect(output).toMatch(/^hello from a sandbox\n[^]*\ndev\.switchyard\.job\.succeeded [\w-]+\nhttps:\/\/github\.example\/acme\/web\/pull\/\d+\n$/m)
  const opened = forge.state.requests.filter(({ head }) => head === `agent/hello-${language}`)
  expect(opened).toMatchObject([{ base: 'main', title: 'Say hello', state: 'open' }])
  expect(output.trim().split('/').at(-1)).toBe(String(opened[0]?.number))
}

describe('the quickstart', () => {
  it('is a walk of lines that this test knows', () => {
    const known = /^(export (GITHUB_TOKEN|QUICKSTART_WEBHOOK_SECRET)=|switchyard (consume|serve|keys create) |npm install CHECKOUT$|node --import tsx quickstart\.ts$|pip install CHECKOUT\/clients\/python$|python quickstart\.py$|go (mod|run) )/
    for (const { language, text, line } of blocks) {
      expect(['sh', 'ts', 'python', 'go', 'text'], `line ${line}`).toContain(language)
      if (language === 'sh') for (const each of text.trim().split('\n')) expect(each).toMatch(known)
    }
  })

  it('in TypeScript', { timeout }, async () => {
    forge.state.branches.add('agent/hello-typescript')
    await writeFile(join(place.folder, 'quickstart.ts'), program('quickstart.ts'))
    // What `npm install` puts there is built; here it is what the tests run.
    const paths = { switchyard: [ownFile('src/index.ts')] }
    await writeFile(join(place.folder, 'tsconfig.json'), JSON.stringify({ extends: join(top, 'tsconfig.json'), compilerOptions: { paths } }))
    await writeFile(join(place.folder, 'package.json'), '{ "type": "module" }')
    expectWalked(await done(lines('node')[0] ?? '', place.folder, { TSX_TSCONFIG_PATH: join(place.folder, 'tsconfig.json') }), 'typescript')
  })

  it.skipIf(python.missing !== undefined)(python.missing === undefined ? 'in Python' : `in Python (skipped: ${python.missing})`, { timeout }, async () => {
    forge.state.branches.add('agent/hello-python')
    const folder = join(place.folder, 'python')
    await mkdir(folder)
    await makeVenv(join(folder, 'venv'))
    const own = { PATH: `${join(folder, 'venv/bin')}${delimiter}${environment['PATH'] ?? ''}` }
    await done(lines('pip install')[0] ?? '', folder, own)
    await writeFile(join(folder, 'quickstart.py'), program('quickstart.py'))
    expectWalked(await done(lines('python')[0] ?? '', folder, own), 'python')
    await writeFile(join(folder, 'readme.py'), await readmeProgram('python'))
    expect(await done('python readme.py', folder, own)).toMatch(/tested\n[^]*succeeded\n$/)
  })

  it.skipIf(go.missing !== undefined)(go.missing === undefined ? 'in Go' : `in Go (skipped: ${go.missing})`, { timeout }, async () => {
    forge.state.branches.add('agent/hello-go')
    const folder = join(place.folder, 'go')
    await mkdir(folder)
    for (const line of lines('go mod')) await done(line, folder)
    await writeFile(join(folder, 'quickstart.go'), program('quickstart.go'))
    expect((await run('gofmt', ['-l', '.'], { cwd: folder })).stdout).toBe('')
    expectWalked(await done(lines('go run')[0] ?? '', folder), 'go')
    await writeFile(join(folder, 'quickstart.go'), await readmeProgram('go'))
    expect(await done('go run .', folder)).toMatch(/tested\n[^]*succeeded\n$/)
  })
})

/** A virtual environment with pip, in which what the client depends on is installed already: it comes from the one that all tests have. */
async function makeVenv(folder: string): Promise<void> {
  if (python.programs === undefined) throw new Error(python.missing)
  const { python: had, pip } = python.programs
  const packages = (await run(had, ['-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'])).stdout.trim()
  await run(had, ['-m', 'venv', '--without-pip', folder])
  const own = (await run(join(folder, 'bin/python'), ['-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'])).stdout.trim()
  await writeFile(join(own, 'installed.pth'), `${packages}\n`)
  await writeFile(join(folder, 'bin/pip'), `#!/bin/sh\nexec ${pip(folder).map((word) => `'${word}'`).join(' ')} "$@"\n`, { mode: 0o755 })
}

/** The program of a client's README, for a job that this repository can do. */
async function readmeProgram(language: 'python' | 'go'): Promise<string> {
  const file = `clients/${language}/README.md`
  expect(await readFile(file, 'utf8')).toContain('npm test')
  const [block, ...more] = fencedBlocks(file)
  expect([block?.language, more]).toEqual([language, []])
  return (block?.text ?? '').replace('npm test', 'echo tested')
}
