import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { InfrastructureError } from '../../src/job/errors.js'
import { DaytonaProvider, daytonaProviderConfigSchema } from '../../src/providers/daytona/index.js'
import { E2bProvider, e2bProviderConfigSchema } from '../../src/providers/e2b/index.js'
import { ModalProvider, modalProviderConfigSchema } from '../../src/providers/modal/index.js'
import type { Provider } from '../../src/providers/provider.js'
import { createRunner } from '../../src/runner/index.js'
import { bubblewrapPlaces, bubblewrapWorks, root, user, type Account } from '../servers/bubblewrap-places.js'
import { startDaytonaServer } from '../servers/daytona/server.js'
import { startE2bServer } from '../servers/e2b/server.js'
import { startModalServer } from '../servers/modal/server.js'
import type { OpenPlace } from '../servers/sandbox-host.js'
import { startDeployment, type Deployment } from './deployment.js'

process.env['MODAL_CONFIG_PATH'] = '/dev/null'
const canBwrap = await bubblewrapWorks()
const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

/** Debian's package manager, as far as it goes: it needs its lists first, and brings the real git and a bundle. */
const aptGet = `#!/bin/sh
case " $* " in
  *' update '*) : >/usr/local/bin/.lists ;;
  *' install '*)
    [ -e /usr/local/bin/.lists ] || { echo 'E: Unable to locate package git' >&2; exit 100; }
    case " $* " in *' git '*) ln -s /mnt/git /usr/local/bin/git ;; esac
    case " $* " in *' ca-certificates'*) echo certificate >/etc/ssl/certs/ca-certificates.crt ;; esac
    ;;
esac
`

/** Places without git and without CA certificates, such as python:3.12-slim makes them. Every sandbox has its own copy. */
function slimImage(account: Account): OpenPlace {
  return bubblewrapPlaces(account, {
    view: async (folder) => {
      const [bin, certificates, apt] = [join(folder, 'bin'), join(folder, 'certs'), join(folder, 'apt-get')]
      await Promise.all([mkdir(bin), mkdir(certificates), writeFile(apt, aptGet, { mode: 0o755 })])
      return [
        ...['--bind', bin, '/usr/local/bin', '--bind', certificates, '/etc/ssl/certs'],
        ...['--tmpfs', '/mnt', '--ro-bind', '/usr/bin/git', '/mnt/git', '--ro-bind', '/dev/null', '/usr/bin/git', '--ro-bind', apt, '/usr/bin/apt-get'],
      ]
    },
  })
}

const starts: Readonly<Record<string, (places: OpenPlace) => Promise<{ provider: Provider; close: () => Promise<void> }>>> = {
  e2b: async (places) => {
    const server = await startE2bServer({ places })
    const config = e2bProviderConfigSchema.parse({ apiUrl: server.url, sandboxUrl: server.url })
    return { provider: new E2bProvider(config, { environment: { E2B_API_KEY: server.apiKey } }), close: () => server.close() }
  },
  modal: async (places) => {
    const server = await startModalServer({ places })
    const environment = { MODAL_TOKEN_ID: server.tokenId, MODAL_TOKEN_SECRET: server.tokenSecret }
    return { provider: new ModalProvider(modalProviderConfigSchema.parse({ serverUrl: server.url }), { environment }), close: () => server.close() }
  },
  daytona: async (places) => {
    const server = await startDaytonaServer({ places })
    return { provider: new DaytonaProvider(daytonaProviderConfigSchema.parse({ apiUrl: server.apiUrl }), { env: { DAYTONA_API_KEY: server.apiKey } }), close: () => server.close() }
  },
}

async function start(name: string, account: Account): Promise<Provider> {
  const { provider, close } = await starts[name]!(slimImage(account))
  undo.push(async () => {
    await provider.close()
    await close()
  })
  return provider
}

const call = { timeoutMs: 30_000 }
const packages = { install: true, timeoutMs: 60_000 } as const

let deployment: Deployment
beforeAll(async () => {
  deployment = await startDeployment()
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
})
afterAll(() => deployment.close())

describe.skipIf(!canBwrap).each(Object.keys(starts))('an image without git at %s', (name) => {
  const sandboxAt = async (provider: Provider) =>
    provider.create({ name: `slim-${name}`, tags: {}, image: undefined, resources: {}, lifetimeMs: 600_000, network: 'open', gitHosts: [] }, call)

  it('gets git and CA certificates right after create, and works then', async () => {
    const provider = await start(name, root)
    const { id } = await sandboxAt(provider)
    const runner = createRunner({ provider, sandboxId: id, image: 'slim' })
    expect(await runner.install({ ...call, certificates: true, packages })).toMatchObject({ installed: 'git and ca-certificates with apt-get', user: 'root' })
    const { sha, ref } = await deployment.host.resolve('acme/web', null, call)
    await runner.clone({ access: await deployment.host.readAccess('acme/web', { ephemeral: false }), ref, sha, branch: 'main', checkpoint: null }, call)
    const branch = `slim/${name}`
    await runner.push({ sha, branch, access: await deployment.host.writeAccess('acme/web', { branch }) }, call)
    expect(await deployment.host.branchHead('acme/web', { name: branch, ephemeral: true }, call)).toBe(sha)
    // Whoever takes over finds all there.
    expect(await createRunner({ provider, sandboxId: id }).install({ ...call, certificates: true })).toMatchObject({ installed: null })
    await provider.kill(id, call)
  })

  it('is refused with the image and the mend where its user is not root, or nothing may be installed', async () => {
    const provider = await start(name, user)
    const { id } = await sandboxAt(provider)
    const runner = createRunner({ provider, sandboxId: id, image: 'slim' })
    for (const [policy, because] of [[packages, 'not root'], [{ install: false, because: 'consumer.installGit is false' }, 'consumer.installGit is false']] as const) {
      const error = await runner.install({ ...call, packages: policy }).catch((thrown: unknown) => thrown)
      expect(error).toBeInstanceOf(InfrastructureError)
      expect(error).toMatchObject({ kind: 'invalid', source: name, message: expect.stringMatching(new RegExp(`the image "slim" has no git, and it could not be installed: .*${because}`)) as string })
    }
    await provider.kill(id, call)
  })
})

describe.skipIf(!canBwrap)('CA certificates alone', () => {
  it('are missed only where git speaks TLS', async () => {
    const provider = await start('modal', root)
    const { id } = await provider.create({ name: 'no-certificates', tags: {}, image: undefined, resources: {}, lifetimeMs: 600_000, network: 'open', gitHosts: [] }, call)
    const runner = createRunner({ provider, sandboxId: id, image: 'slim' })
    expect(await runner.install({ ...call, packages })).toMatchObject({ installed: 'git with apt-get' })
    expect(await runner.install(call)).toMatchObject({ installed: null })
    await expect(runner.install({ ...call, certificates: true })).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('the image "slim" has no CA certificates; use an image with git, CA certificates') as string })
    await provider.kill(id, call)
  })
})

describe.skipIf(!canBwrap)('a job in an image without git', () => {
  it('runs, and says what it waited for', async () => {
    const provider = await start('modal', root)
    const consumer = await deployment.startConsumer({ providers: [{ provider, limit: { sandboxes: 2 } }] })
    try {
      const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo more >>README.md'], image: 'python:3.12-slim' })
      const result = await job.result({ timeoutMs: 150_000 })
      expect(result).toMatchObject({ status: 'succeeded', diff: { paths: ['README.md'] } })
      const lines: string[] = []
      for await (const { stream, text } of job.logs()) if (stream === 'system') lines.push(text)
      expect(lines.join('')).toContain('installed git with apt-get; an image that has it starts faster')
    } finally {
      await consumer.stop()
    }
  })

  it.each<[string, { installGit?: boolean }, object, string]>([
    ['installing is off', { installGit: false }, {}, 'consumer.installGit is false'],
    ['the job has no network for it', {}, { network: 'none' }, 'the job’s network, "none", reaches no package mirror'],
  ])('fails as invalid at once when %s, and is not tried again', async (_why, settings, spec, because) => {
    const provider = await start('modal', root)
    // Without a network only a consumer that carries the commits itself gets as far as the sandbox.
    const credentials = 'network' in spec ? ('brokered' as const) : ('minted' as const)
    const consumer = await deployment.startConsumer({ providers: [{ provider, limit: { sandboxes: 2 }, credentials }], settings })
    try {
      const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['true'], image: 'python:3.12-slim', ...spec })
      const result = await job.result({ timeoutMs: 150_000 })
      expect(result).toMatchObject({ status: 'failed', error: { kind: 'invalid' }, attempts: [{ provider: 'modal' }], steps: [] })
      expect(result.error?.message).toContain(`the image "python:3.12-slim" has no git, and it could not be installed: ${because}`)
    } finally {
      await consumer.stop()
    }
  })
})
