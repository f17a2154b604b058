import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startProtocolServers } from '../../src/cli/demo/protocol-servers.js'
import { chooseServices } from '../../src/cli/demo/services.js'
import { generateDevelopmentKeys, startCodeStorage } from '../../src/embedded/index.js'
import { CodeStorageHost } from '../../src/git/index.js'
import { jobResultSchema, type JobResult } from '../../src/job/result.js'
import { startDaytonaServer } from '../servers/daytona/server.js'
import { startE2bServer } from '../servers/e2b/server.js'
import { until } from '../e2e/deployment.js'
import { fromCheckout, makePlace, type Place, type Run } from './run-switchyard.js'

const nothing = { files: [], processes: [] }
/** A developer's own keys are no business of a test's. */
const noKeys = { E2B_API_KEY: '', MODAL_TOKEN_ID: '', MODAL_TOKEN_SECRET: '', DAYTONA_API_KEY: '', PIERRE_ORG: '', PIERRE_PRIVATE_KEY: '' }

let place: Place
beforeEach(async () => {
  place = await makePlace()
})
afterEach(() => place.remove())

function reportOf(run: Run): { services: string; jobs: JobResult[] } {
  const report = JSON.parse(run.stdout()) as { services: string; jobs: unknown[] }
  return { services: report.services, jobs: report.jobs.map((job) => jobResultSchema.parse(job)) }
}

describe('at the servers that speak the providers’ protocols', () => {
  it('runs one job at each provider and moves one over a full one, says what plays them, and leaves nothing behind', { timeout: 300_000 }, async () => {
    const run = place.run(['demo', '--providers', 'e2b,modal,daytona', '--json'], { ...noKeys, E2B_API_KEY: 'e2b_somebodys' }, fromCheckout)
    expect(await run.ended, run.stderr()).toBe(0)
    const { services, jobs } = reportOf(run)
    expect(services).toBe('protocol servers')
    expect(jobs.map(({ status }) => status)).toEqual(['succeeded', 'succeeded', 'succeeded', 'succeeded', 'failed'])
    for (const [index, name] of ['e2b', 'modal', 'daytona'].entries()) {
      expect(jobs[index]).toMatchObject({ attempts: [{ provider: name, outcome: 'succeeded' }], promoted: { to: `demo/${name}`, result: 'created' } })
    }
    expect(jobs[3]).toMatchObject({
      attempts: [{ provider: 'e2b', outcome: 'lost', error: { kind: 'sandbox-lost' } }, { provider: 'daytona', outcome: 'succeeded' }],
      steps: [{ name: 'prepare' }, { name: 'work' }, { name: 'report' }],
      promoted: { to: 'demo/failover' },
    })
    const said = run.stderr()
    expect(said).toContain('protocol servers of this checkout, not the services themselves (for want of MODAL_TOKEN_ID, MODAL_TOKEN_SECRET, DAYTONA_API_KEY, PIERRE_ORG, PIERRE_PRIVATE_KEY)')
    for (const line of [/modal was filled up by another customer/, /at e2b was killed from outside/, /modal had no place \(capacity\)/, /goes on at daytona from checkpoint/, /All 5 jobs ended as intended/]) {
      expect(said).toMatch(line)
    }
    expect(await place.left()).toEqual(nothing)
  })

  it('keeps everything up when asked to, for the other commands too', { timeout: 300_000 }, async () => {
    const run = place.run(['demo', '--providers', 'daytona,local', '--no-real', '--keep'], noKeys)
    await run.saw(/Ctrl-C stops everything/)
    expect(run.stdout()).toContain('daytona: protocol servers of this checkout, not the services themselves; their own SDKs')
    const board = /Bull Board: (\S+)/.exec(run.stdout())?.[1] ?? ''
    expect((await fetch(new URL('healthz', board))).status).toBe(200)
    const config = /SWITCHYARD_CONFIG=(\S+)/.exec(run.stdout())?.[1] ?? ''
    const status = place.run(['status', '--json'], { SWITCHYARD_CONFIG: config })
    expect(await status.ended, status.stderr()).toBe(0)
    expect((JSON.parse(status.stdout()) as { state: string }[]).map((job) => job.state).sort()).toEqual(['failed', 'succeeded', 'succeeded', 'succeeded'])
    run.child.kill('SIGTERM')
    expect(await run.ended, run.stderr()).toBe(0)
    expect(await place.left()).toEqual(nothing)
  })

  it('leaves nothing behind when it is stopped in the middle', { timeout: 300_000 }, async () => {
    const run = place.run(['demo', '--providers', 'e2b,modal,daytona', '--no-real'], noKeys)
    await run.saw(/running .*step/)
    run.child.kill('SIGINT')
    expect(await run.ended, run.stderr()).toBe(130)
    expect(run.stderr()).toContain('stopped; everything was taken down')
    expect(await place.left()).toEqual(nothing)
  })

  it('leaves nothing behind when it is stopped while the servers start', async () => {
    const run = place.run(['demo', '--providers', 'e2b,daytona'], noKeys)
    await until('a server to be started', async () => (await place.left()).processes.some((line) => line.includes('test/servers')))
    run.child.kill('SIGTERM')
    expect(await run.ended, run.stderr()).toBe(130)
    expect(await place.left()).toEqual(nothing)
  })

  it('has no server outlive it when it is killed', async () => {
    const run = place.run(['demo', '--providers', 'e2b,modal,daytona'], noKeys)
    const servers = async () => (await place.left()).processes.filter((line) => line.includes('test/servers') || line.includes('bwrap'))
    await run.saw(/running .*step/)
    expect((await servers()).length).toBeGreaterThanOrEqual(3)
    run.child.kill('SIGKILL')
    await run.ended
    await until('the servers and their sandboxes to end', async () => (await servers()).length === 0)
  })

  it('says where the servers come from when there is no checkout', async () => {
    const start = startProtocolServers({ kind: 'protocol servers', names: ['e2b', 'modal'], missing: [] }, { checkout: place.folder, folder: place.folder, signal: new AbortController().signal })
    await expect(start).rejects.toThrow(/^--providers: the servers that speak the providers’ protocols come with a checkout .* is not there; run script\/demo in a checkout, or .* --real$/)
  })
})

describe('at the services themselves', () => {
  const keys = { E2B_API_KEY: 'e2b_local', DAYTONA_API_KEY: 'dtn_test_key' }

  /** A deployment's own E2B and Daytona and Code Storage: servers on this machine, as somebody who hosts them has them. */
  async function selfHosted() {
    const { privateKey } = generateDevelopmentKeys()
    const [e2b, daytona, storage] = await Promise.all([
      startE2bServer(),
      startDaytonaServer(),
      startCodeStorage({ dataDir: join(place.folder, 'storage'), org: 'acme', publicKeys: [privateKey] }),
    ])
    const urls = { storageUrl: storage.url, apiUrl: storage.apiUrl }
    const config = {
      git: { type: 'code-storage', org: 'acme', ...urls },
      providers: [
        { name: 'e2b', type: 'e2b', limit: { sandboxes: 4 }, apiUrl: e2b.url, sandboxUrl: e2b.url },
        { name: 'dtn', type: 'daytona', limit: { sandboxes: 4 }, apiUrl: daytona.apiUrl },
      ],
    }
    await writeFile(join(place.folder, 'own.json'), JSON.stringify(config))
    return {
      e2b,
      daytona,
      client: new CodeStorageHost({ org: 'acme', privateKey, ...urls }).client,
      environment: { ...noKeys, ...keys, PIERRE_PRIVATE_KEY: privateKey },
      close: () => Promise.all([e2b.close(), daytona.close(), storage.close()]),
    }
  }

  it('runs as the configuration has them, removes its repository and leaves other people’s sandboxes alone', { timeout: 300_000 }, async () => {
    const own = await selfHosted()
    try {
      await own.client.createRepository('somebody/else', 'main', { timeoutMs: 10_000 })
      const id = 'of-another-customer'
      await own.e2b.host.create({ id, lifetimeMs: 600_000, details: { template: 'base', metadata: {}, envVars: {}, accessToken: 'x', allowInternetAccess: undefined, network: {} } })
      const run = place.run(['demo', '--providers', 'e2b,dtn', '--config', 'own.json', '--json'], own.environment)
      expect(await run.ended, run.stderr()).toBe(0)
      const { services, jobs } = reportOf(run)
      expect(services).toBe('real')
      expect(jobs.map(({ attempts }) => attempts.map(({ provider, outcome }) => `${provider} ${outcome}`))).toEqual([
        ['e2b succeeded'], ['dtn succeeded'], ['e2b lost', 'dtn succeeded'], [expect.stringContaining('failed')],
      ])
      expect(run.stderr()).toContain('the services themselves: e2b, dtn as own.json has them')
      const [repository] = jobs.map((job) => job.repository)
      expect(repository).toMatch(/^switchyard-demo-[0-9a-f]{8}$/)
      expect(await own.client.repository(repository!, { timeoutMs: 10_000 })).toBeNull()
      expect(await own.client.repository('somebody/else', { timeoutMs: 10_000 })).not.toBeNull()
      expect(own.e2b.host.state().sandboxes.map((sandbox) => sandbox.id)).toEqual([id])
      expect(own.daytona.records.list()).toEqual([])
      expect(await place.left()).toEqual(nothing)
    } finally {
      await own.close()
    }
  })

  it('leaves no sandbox and no repository there when it is stopped in the middle', { timeout: 300_000 }, async () => {
    const own = await selfHosted()
    try {
      const run = place.run(['demo', '--providers', 'e2b,dtn', '--config', 'own.json'], own.environment)
      await run.saw(/running .*step/)
      const repository = /repository (switchyard-demo-\w+)/.exec(run.stdout())?.[1] ?? ''
      expect(await own.client.repository(repository, { timeoutMs: 10_000 })).not.toBeNull()
      run.child.kill('SIGINT')
      expect(await run.ended, run.stderr()).toBe(130)
      expect(await own.client.repository(repository, { timeoutMs: 10_000 })).toBeNull()
      expect([own.e2b.host.state().live, own.daytona.records.list().length]).toEqual([0, 0])
      expect(await place.left()).toEqual(nothing)
    } finally {
      await own.close()
    }
  })

  it('says everything that is refused before it makes anything', async () => {
    const own = await selfHosted()
    try {
      const { privateKey } = generateDevelopmentKeys()
      const run = place.run(['demo', '--providers', 'e2b,dtn', '--config', 'own.json'], { ...own.environment, E2B_API_KEY: 'e2b_wrong', DAYTONA_API_KEY: '', PIERRE_PRIVATE_KEY: privateKey })
      expect(await run.ended).toBe(2)
      for (const line of [/^switchyard: e2b: .*E2B_API_KEY/m, /^switchyard: dtn: the environment variable DAYTONA_API_KEY is empty/m, /^switchyard: code-storage: /m]) {
        expect(run.stderr()).toMatch(line)
      }
      expect(run.stdout()).toBe('')
      expect(own.e2b.host.state().created).toBe(0)
      expect(await place.left()).toEqual(nothing)
    } finally {
      await own.close()
    }
  })

  it('refuses a Code Storage on this machine, which sandboxes elsewhere can’t reach', async () => {
    const { privateKey } = generateDevelopmentKeys()
    const config = {
      git: { type: 'code-storage', org: 'acme', storageUrl: 'http://localhost:1', apiUrl: 'http://localhost:1' },
      providers: [{ name: 'e2b', type: 'e2b', limit: { sandboxes: 4 } }, { name: 'local', type: 'local', limit: { sandboxes: 4 } }],
    }
    await writeFile(join(place.folder, 'own.json'), JSON.stringify(config))
    const run = place.run(['demo', '--providers', 'e2b,local', '-c', 'own.json'], { ...noKeys, ...keys, PIERRE_PRIVATE_KEY: privateKey })
    expect(await run.ended).toBe(2)
    expect(run.stderr()).toContain('git: http://localhost:1 is on this machine, where no sandbox at e2b can reach it; use a Code Storage that they can reach')
    expect(await place.left()).toEqual(nothing)
  })

  it('says every variable that is missing when told to be real', async () => {
    const run = place.run(['demo', '--providers', 'e2b,modal', '--real'], { ...noKeys, E2B_API_KEY: 'e2b_x' })
    expect(await run.ended).toBe(2)
    const lines = run.stderr().trimEnd().split('\n')
    expect(lines.map((line) => /variable (\w+) is not set/.exec(line)?.[1])).toEqual(['MODAL_TOKEN_ID', 'MODAL_TOKEN_SECRET', 'PIERRE_ORG', 'PIERRE_PRIVATE_KEY'])
    expect(lines[2]).toContain('a sandbox at e2b, modal can’t reach a Code Storage on this machine')
    expect(await place.left()).toEqual(nothing)
  })
})

describe('what plays the providers', () => {
  const all = { E2B_API_KEY: 'a', DAYTONA_API_KEY: 'b', PIERRE_ORG: 'acme', PIERRE_PRIVATE_KEY: 'c' }
  const names = ['e2b', 'daytona']
  const providers = names.join()

  it('is this machine, when nobody is named', () => expect(chooseServices({}, all)).toEqual({ kind: 'local' }))
  it('is the services, when all that they need is in the environment', () => {
    expect(chooseServices({ providers }, all)).toEqual({ kind: 'real', names })
    expect(chooseServices({ providers: ' e2b, daytona ', real: true }, all)).toEqual({ kind: 'real', names })
  })
  it('is protocol servers, when something is missing or they are asked for', () => {
    expect(chooseServices({ providers }, { ...all, PIERRE_ORG: ' ', E2B_API_KEY: undefined })).toEqual({ kind: 'protocol servers', names, missing: ['E2B_API_KEY', 'PIERRE_ORG'] })
    expect(chooseServices({ providers, real: false }, all)).toEqual({ kind: 'protocol servers', names, missing: [] })
  })
  it('is what a configuration has, under its names', () => {
    expect(chooseServices({ providers: 'us,eu', config: 'x.json' }, {})).toEqual({ kind: 'real', names: ['us', 'eu'] })
  })
  it.each([
    [{ real: true }, '--real: is about providers that are named; add --providers'],
    [{ config: 'x.json' }, '--config: is about providers that are named'],
    [{ providers: 'e2b' }, '--providers: give at least two, each once'],
    [{ providers: 'e2b,e2b' }, '--providers: give at least two, each once'],
    [{ providers: 'e2b,fly' }, '--providers: "fly" is none of e2b, modal, daytona, local'],
  ])('is a mistake with %j', (flags, sentence) => expect(() => chooseServices(flags, all)).toThrow(sentence))
})
