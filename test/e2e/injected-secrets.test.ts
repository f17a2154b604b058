import { randomBytes } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Daytona } from '@daytona/sdk'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createProviders, type ConfiguredProvider } from '../../src/config/providers.js'
import { secretsFromEnvironment } from '../../src/consumers/index.js'
import { startProviderServer } from '../chaos/provider-servers.js'
import { bestPlaces, bubblewrapWorks, root } from '../servers/bubblewrap-places.js'
import { startDaytonaServer } from '../servers/daytona/server.js'
import { spanning } from '../whole.js'
import { startDeployment, type Deployment } from './deployment.js'

const isolated = await bubblewrapWorks()
const key = `key-${randomBytes(12).toString('hex')}`
/** Matches the key, but not itself in a process list. */
const pattern = `${key.slice(0, -1)}[${key.slice(-1)}]`

let deployment: Deployment
let model: Server
let providers: ConfiguredProvider[]
let address: string
let creates: () => readonly unknown[]
const asked: Record<string, string | string[] | undefined>[] = []
const closers: (() => Promise<void>)[] = []

beforeAll(async () => {
  process.env['MODAL_CONFIG_PATH'] = '/dev/null'
  deployment = await startDeployment()
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  model = createServer((request, response) => {
    asked.push(request.headers)
    response.writeHead(404).end()
  })
  await new Promise<void>((resolve) => model.listen(0, '127.0.0.1', resolve))
  address = `http://127.0.0.1:${(model.address() as AddressInfo).port}`
  providers = await createProviders([{ name: 'local', type: 'local', limit: { sandboxes: 2 }, stateDir: join(deployment.dir, 'own') }])
  const [e2b, modal] = await Promise.all([startProviderServer('e2b', 2), startProviderServer('modal', 2)])
  const daytona = await startDaytonaServer({ places: await bestPlaces(root), createsPerMinute: 10_000 })
  creates = () => daytona.createBodies
  const organisation = new Daytona({ apiKey: daytona.apiKey, apiUrl: daytona.apiUrl })
  await organisation.secret.create({ name: 'model-prod', value: key, hosts: ['127.0.0.1', '*.example.com'] })
  await organisation.secret.create({ name: 'model-any', value: key })
  closers.push(() => e2b.close(), () => modal.close(), () => daytona.close())
  for (const [name, entry, environment] of [
    ['e2b', e2b.entry, e2b.environment],
    // With the git host's token injected as well: both are there while git talks.
    ['e2b-injected', { ...e2b.entry, credentials: 'injected' }, e2b.environment],
    ['modal', { ...modal.entry, injectHeaders: true }, modal.environment],
    ['modal-plain', modal.entry, modal.environment],
    ['daytona', { type: 'daytona', limit: { sandboxes: 2 }, apiUrl: daytona.apiUrl }, { DAYTONA_API_KEY: daytona.apiKey }],
    ['daytona-kept', { type: 'daytona', limit: { sandboxes: 2 }, apiUrl: daytona.apiUrl, secrets: { MODEL_KEY: 'model-prod' } }, { DAYTONA_API_KEY: daytona.apiKey }],
    ['daytona-any', { type: 'daytona', limit: { sandboxes: 2 }, apiUrl: daytona.apiUrl, secrets: { MODEL_KEY: 'model-any' } }, { DAYTONA_API_KEY: daytona.apiKey }],
    ['daytona-none', { type: 'daytona', limit: { sandboxes: 2 }, apiUrl: daytona.apiUrl, secrets: { MODEL_KEY: 'no-such' } }, { DAYTONA_API_KEY: daytona.apiKey }],
  ] as const) {
    providers.push(...(await createProviders([{ ...entry, name }], { environment })))
  }
  await deployment.startConsumer({ providers, secrets: secretsFromEnvironment(['MODEL_KEY'], { MODEL_KEY: key }), settings: { readWaitMs: 1_000, unrunnableGraceMs: 2_000 } })
})
afterAll(async () => {
  await deployment.close()
  for (const { provider } of providers) {
    for await (const { id } of provider.list({}, { timeoutMs: 10_000 })) await provider.kill(id, { timeoutMs: 10_000 })
    await provider.close()
  }
  await Promise.all(closers.map((close) => close()))
  await new Promise((resolve) => model.close(resolve))
})

const secrets = (fallback?: 'environment') => [{ name: 'MODEL_KEY', inject: { host: '127.0.0.1', header: 'x-api-key', prefix: 'Bearer ', ...(fallback === undefined ? {} : { fallback }) } }]
/** Asks the server, and says in which places of the sandbox the key is found. */
const steps = () => [
  { name: 'ask', run: `git ls-remote ${address}/model 2>/dev/null; echo "$MODEL_KEY"` },
  { name: 'search', run: `cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c '${pattern}'; grep -rl '${pattern}' "$HOME" /tmp 2>/dev/null; :` },
]

describe.skipIf(!isolated)('a secret with inject', () => {
  // CI has the one that injects the git host's token besides; the last test has a job at the other two.
  it.each(spanning([['e2b'], ['e2b-injected'], ['modal']], 'e2b-injected'))('reaches its host from a sandbox that never holds it: %s', async (provider) => {
    asked.length = 0
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [...steps(), 'echo done >done.txt'], secrets: secrets(), providers: { allow: [provider] } })
    const result = await job.result({ timeoutMs: 150_000 })
    expect(result).toMatchObject({ status: 'succeeded', error: null, attempts: [{ provider }], steps: [{ stdoutTail: 'added-outside-of-the-sandbox\n' }, { stdoutTail: '0\n' }, {}] })
    expect(new Set(asked.map((headers) => headers['x-api-key']))).toEqual(new Set([`Bearer ${key}`]))
    // The git host's header is only for the git host, and was taken away.
    expect(asked.filter(({ authorization }) => authorization !== undefined)).toEqual([])
  })

  it('is filled in by Daytona for a stand-in, when the organisation keeps it, and goes to its hosts alone', async () => {
    asked.length = 0
    const ask = (host: string) => `git -c http.extraHeader="x-api-key: Bearer $MODEL_KEY" ls-remote ${address.replace('127.0.0.1', host)}/model 2>/dev/null; echo "$MODEL_KEY"`
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [ask('127.0.0.1'), ask('localhost'), ...steps().slice(1)], push: false, secrets: secrets(), providers: { allow: ['daytona-kept'] } })
    const result = await job.result({ timeoutMs: 150_000 })
    expect(result).toMatchObject({ status: 'succeeded', error: null, attempts: [{ provider: 'daytona-kept' }] })
    const standIn = result.steps[0]?.stdoutTail.trim() ?? ''
    expect(standIn).toMatch(/^dtn_secret_\w+$/)
    expect(result.steps[2]?.stdoutTail).toBe('0\n')
    expect(new Set(asked.map((headers) => `${String(headers.host).split(':')[0]} ${String(headers['x-api-key'])}`))).toEqual(new Set([`127.0.0.1 Bearer ${key}`, `localhost Bearer ${standIn}`]))
    // Its create named the organisation's secret, and nothing of the value went to Daytona with the job.
    expect(JSON.stringify(creates())).toContain('"secrets":[{"MODEL_KEY":"model-prod"}]')
    expect(JSON.stringify(creates())).not.toContain(key)
  })

  it.each([
    ['daytona-any', 'may be sent to any host, so to one of a job\'s too; give it hosts at Daytona'],
    ['daytona-none', 'the organisation has no secret "no-such" for MODEL_KEY; make it at Daytona, with the hosts that it is for'],
    ['daytona-kept', 'is for 127.0.0.1, *.example.com, and the job has MODEL_KEY for 127.0.0.2'],
  ])('makes no sandbox where the organisation does not keep it as the job has it: %s, %s', async (provider, because) => {
    const configured = providers.find((each) => each.provider.name === provider)!.provider
    const keptSecrets = [{ name: 'MODEL_KEY', host: provider === 'daytona-kept' ? '127.0.0.2' : '127.0.0.1' }]
    const created = configured.create({ name: `kept-${provider}`, tags: {}, image: undefined, resources: {}, lifetimeMs: 60_000, network: 'open', gitHosts: [], keptSecrets }, { timeoutMs: 30_000 })
    await expect(created).rejects.toMatchObject({ kind: 'invalid', owner: 'consumer-configuration', message: expect.stringContaining(because) as string })
    for await (const { name } of configured.list({}, { timeoutMs: 30_000 })) expect(name).not.toBe(`kept-${provider}`)
    const warnings = await configured.check({ timeoutMs: 30_000 })
    expect(warnings.some((warning) => warning.includes(because)), 'doctor says so before').toBe(provider !== 'daytona-kept')
  })

  it.each(['local', 'daytona', 'modal-plain'])('is refused at a provider that adds none: %s', async (provider) => {
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: steps(), secrets: secrets(), providers: { allow: [provider] } })
    const { status, error, attempts } = await job.result({ timeoutMs: 150_000 })
    expect({ status, attempts }).toEqual({ status: 'failed', attempts: [] })
    expect(error?.message).toContain(`${provider}: secrets: this provider adds no headers to requests outside of its sandboxes; ${provider === 'modal-plain' ? 'set injectHeaders in its settings' : provider === 'daytona' ? 'name a secret of the organisation in its settings' : 'allow a provider that does'}, or give inject.fallback: "environment"`)
  })

  it('is in the environment where that is allowed, masked in output, and the log says so', async () => {
    const provider = 'local'
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [`[ "$MODEL_KEY" = added-outside-of-the-sandbox ] || echo "have $MODEL_KEY"`], secrets: secrets('environment'), push: false, providers: { allow: [provider] } })
    const { status, steps: [step] } = await job.result({ timeoutMs: 150_000 })
    expect({ status, said: step?.stdoutTail }).toEqual({ status: 'succeeded', said: `have ${'*'.repeat(key.length)}\n` })
    let log = ''
    for await (const { text } of job.logs()) log += text
    expect(log).toContain(`secrets: ${provider} adds no headers outside of its sandboxes, so MODEL_KEY stand in the environment`)
  })

  it('goes along to the next provider, when the job does', { timeout: 300_000 }, async () => {
    asked.length = 0
    const job = await deployment.queue.enqueue({
      repository: 'acme/web',
      steps: [{ name: 'first', run: 'echo one >one.txt' }, { name: 'second', run: `git ls-remote ${address}/model 2>/dev/null; [ "$SWITCHYARD_ATTEMPT" = 2 ] || sleep 600` }, ...steps().slice(1)],
      secrets: secrets(),
      providers: { allow: ['e2b', 'modal'], prefer: ['e2b'] },
    })
    await expect.poll(() => asked.length).toBeGreaterThan(0)
    const { provider, sandboxId } = await job.status()
    await providers.find((each) => each.provider.name === provider)!.provider.kill(sandboxId!, { timeoutMs: 10_000 })
    const before = asked.length
    expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded', attempts: [{ provider: 'e2b' }, { provider: 'modal' }], steps: [{}, {}, { stdoutTail: '0\n' }] })
    expect(asked.slice(before).map((headers) => headers['x-api-key'])).toContain(`Bearer ${key}`)
  })

  it('leaves no trace of its value in Redis or in what the consumer logs', async () => {
    expect(deployment.logs.filter((line) => line.includes(key))).toEqual([])
  })
})
