import type { IncomingMessage } from 'node:http'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createProviders, type ConfiguredProvider } from '../../src/config/providers.js'
import { CodeStorageHost } from '../../src/git/index.js'
import type { GitAccess } from '../../src/git/host.js'
import { checkpointBranch } from '../../src/job/names.js'
import type { JobResult } from '../../src/job/result.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import type { JobHandle } from '../../src/producers/index.js'
import { startProviderServer, type ProviderServer } from '../chaos/provider-servers.js'
import { bestPlaces, bubblewrapWorks, root } from '../servers/bubblewrap-places.js'
import { startDaytonaServer } from '../servers/daytona/server.js'
import { spanning, whole } from '../whole.js'
import { git, startDeployment, until, type Deployment } from './deployment.js'
import { startGitFront, type GitFront } from './git-front.js'
import { sandboxFiles, sandboxProcesses } from './sandbox-search.js'

/**
 * Every provider in every mode that it has, each with a server and an account of its own. Where tokens are is looked for in CI at each provider and in each mode,
 * by jobs that move from one to the next, and by `npm run test:long` in each mode of each provider too.
 */
const places = [
  ['local', 'minted'],
  ['e2b', 'minted'],
  ['modal', 'minted'],
  ['daytona', 'minted'],
  ['e2b', 'injected'],
  ['modal', 'injected'],
  ['local', 'brokered'],
  ['e2b', 'brokered'],
  ['modal', 'brokered'],
  ['daytona', 'brokered'],
] as const

const canary = 'what the job has written'

/** What a search of a whole sandbox found, at one moment. */
interface Search {
  readonly when: 'clone' | 'push' | 'between' | 'after the push'
  readonly argv: string[]
  /** The command lines of the processes whose environment holds a token. */
  readonly environments: string[]
  readonly inFiles: boolean
  readonly seesFiles: boolean
}

let deployment: Deployment
let front: GitFront
let host: CodeStorageHost
let base: string
const closers: (() => Promise<void>)[] = []
let providers: ConfiguredProvider[]
const tokens = new Set<string>()

// Sandboxes' processes are told from the consumer's own by their view of the file system.
const isolated = await bubblewrapWorks()

beforeAll(async () => {
  process.env['MODAL_CONFIG_PATH'] = '/dev/null'
  deployment = await startDeployment()
  base = await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  front = await startGitFront(deployment.storage.url)
  host = new CodeStorageHost({ org: 'acme', privateKey: deployment.privateKey, storageUrl: front.url, apiUrl: front.url })
  for (const method of ['readAccess', 'writeAccess'] as const) {
    const original: (repository: string, options: never) => Promise<GitAccess> = host[method].bind(host)
    host[method] = async (repository: string, options: unknown) => {
      const access = await original(repository, options as never)
      tokens.add(access.token).add(Buffer.from(`${access.username}:${access.token}`).toString('base64'))
      return access
    }
  }
  providers = []
  for (const [type, credentials] of places) {
    const name = `${type}-${credentials}`
    if (type === 'local') {
      const entry = { name, type, credentials, limit: { sandboxes: 2 }, stateDir: join(deployment.dir, name) }
      providers.push(...(await createProviders([entry])))
      continue
    }
    const server = await startServer(type)
    closers.push(server.close)
    providers.push(...(await createProviders([{ ...server.entry, name, credentials }], { environment: server.environment })))
  }
  await deployment.startConsumer({ providers, git: host, settings: { reapIntervalMs: 1_000 } })
})
afterAll(async () => {
  await deployment.close()
  await front.close()
  for (const { provider } of providers) {
    for await (const { id } of provider.list({}, { timeoutMs: 10_000 })) await provider.kill(id, { timeoutMs: 10_000 })
    await provider.close()
  }
  await Promise.all(closers.map((close) => close()))
})

async function startServer(type: 'e2b' | 'modal' | 'daytona'): Promise<Pick<ProviderServer, 'entry' | 'environment' | 'close'>> {
  if (type !== 'daytona') return startProviderServer(type, 2)
  // The server's usual sandboxes share this machine's view.
  const server = await startDaytonaServer({ places: await bestPlaces(root), createsPerMinute: 10_000 })
  const entry = { name: type, type, limit: { sandboxes: 2 }, apiUrl: server.apiUrl }
  return { entry, environment: { DAYTONA_API_KEY: server.apiKey }, close: () => server.close() }
}

const providerOf = (name: string) => providers.find(({ provider }) => provider.name === name)!.provider

async function search(when: Search['when'], job: JobHandle): Promise<Search> {
  const { provider, sandboxId } = await job.status()
  const processes = await sandboxProcesses()
  const files = await sandboxFiles(providerOf(provider!), sandboxId!)
  const holdsToken = (text: string) => [...tokens].some((token) => text.includes(token))
  return {
    when,
    argv: processes.map(({ argv }) => argv).filter(holdsToken),
    environments: processes.filter(({ environment }) => holdsToken(environment)).map(({ argv }) => argv),
    inFiles: holdsToken(files),
    // The search does see what is there.
    seesFiles: files.includes(canary),
  }
}

/** What a request to the git host is about, as far as it is searched for. */
function momentOf({ method, url = '' }: IncomingMessage, phase: string): Search['when'] | undefined {
  if (method === 'POST' && url.endsWith('/git-upload-pack') && phase === 'preparing') return 'clone'
  if (method === 'POST' && url.endsWith('/git-receive-pack')) return 'push'
  return url.includes('/repos/diff') ? 'after the push' : undefined
}

/** What searches found, in a sandbox of that mode. */
function expectHidden(searches: readonly Search[], mode: string): void {
  for (const found of searches) {
    expect(found.argv, found.when).toEqual([])
    expect(found.inFiles, found.when).toBe(false)
    const transfers = found.when === 'clone' || found.when === 'push'
    if (mode !== 'minted' || !transfers) expect(found.environments, found.when).toEqual([])
    // Git has it, and the provider's call that runs it. That is what the other modes are for, and shows that the search can find it.
    else expect(found.environments.filter((argv) => /^(\S*\/)?git /.test(argv)), found.when).not.toEqual([])
  }
  for (const token of tokens) expect(deployment.logs.some((line) => line.includes(token))).toBe(false)
}

/** Nothing is left in it with which the sandbox could talk to the host. */
async function expectHostRefuses(name: string, sandboxId: string): Promise<void> {
  const asked = await providerOf(name).exec(sandboxId, { script: 'cd "$HOME/repository" && GIT_TERMINAL_PROMPT=0 git ls-remote origin 2>&1' }, { timeoutMs: 20_000 })
  expect(asked.exitCode, asked.stdout).not.toBe(0)
  expect(asked.stdout).toMatch(/could not read Username|terminal prompts disabled/)
}

describe.runIf(isolated && whole)('where tokens are while a job is cloned, saved, pushed and promoted', () => {
  it.each(places)('%s, %s', async (type, mode) => {
    const name = `${type}-${mode}`
    const searches: Search[] = []
    const job = await deployment.queue.enqueue({
      repository: 'acme/web',
      steps: [
        { name: 'first', run: `echo "${canary}" > one.txt; git add one.txt; git -c user.name=A -c user.email=a@example.invalid commit -qm Own; echo more > two.txt` },
        { name: 'hold', run: 'while [ ! -e "$HOME/release" ]; do sleep 0.1; done; cat one.txt two.txt > three.txt' },
      ],
      promote: { to: `done/${name}` },
      providers: { allow: [name] },
      timeout: '2m',
    })
    front.before = async (request) => {
      const when = momentOf(request, (await job.status()).phase ?? '')
      if (when !== undefined) searches.push(await search(when, job))
    }
    try {
      await until('the held step with its checkpoint', async () => {
        const { step, checkpointSha } = await job.status()
        return step?.includes('hold') === true && checkpointSha !== null
      }, 300_000)
      searches.push(await search('between', job))
      const { sandboxId } = await job.status()
      await expectHostRefuses(name, sandboxId!)
      await providerOf(name).exec(sandboxId!, { script: 'touch "$HOME/release"' }, { timeoutMs: 20_000 })
      const result = await job.result({ timeoutMs: 150_000 })
      expect(result).toMatchObject({ status: 'succeeded', error: null, attempts: [{ provider: name, outcome: 'succeeded' }], promoted: { to: `done/${name}`, sha: result.commit } })
    } finally {
      front.before = () => Promise.resolve()
    }
    const promoted = await deployment.checkout('acme/web', `done/${name}`, false)
    expect(await readFile(join(promoted, 'three.txt'), 'utf8')).toBe(`${canary}\nmore\n`)
    expect(await git(promoted, 'log', '--format=%s', `${base}..HEAD`)).toMatch(/\nOwn$/)

    const moments = new Set(searches.map(({ when }) => when))
    expect([...moments].toSorted()).toEqual(['after the push', 'between', 'clone', 'push'])
    for (const found of searches) expect(found.seesFiles, found.when).toBe(found.when !== 'clone')
    expectHidden(searches, mode)
  }, 300_000)
})

// Minted ones most other jobs of tests have that go on elsewhere.
describe.each(spanning<[string, readonly [string, string]]>([
  ['minted', ['local-minted', 'daytona-minted']],
  ['injected', ['e2b-injected', 'modal-injected']],
  ['brokered', ['modal-brokered', 'daytona-brokered']],
], 'injected', 'brokered'))('a job with %s credentials', (mode, [first, second]) => {
  it('goes on elsewhere from its checkpoint when it loses its sandbox, is pushed and promoted, and leaves no token at either', async () => {
    const searches: (Search & { readonly provider: string })[] = []
    const look = async (when: Search['when']) => {
      const { provider } = await job.status()
      searches.push({ ...(await search(when, job)), provider: provider! })
    }
    const job = await deployment.queue.enqueue({
      repository: 'acme/web',
      steps: [
        { name: 'first', run: `: > "$HOME/first"; echo "${canary}" > canary.txt; date +%s%N > once.txt; git add once.txt; git -c user.name=A -c user.email=a@example.invalid commit -qm Own; printf "\\0\\377" > bytes.bin` },
        { name: 'second', run: '[ ! -e "$HOME/first" ] || sleep 600; cat once.txt > twice.txt; git log --format=%s -1 > head.txt' },
        { name: 'third', run: 'echo third > third.txt' },
      ],
      promote: { to: `moved/${mode}` },
      providers: { prefer: [first, second], allow: [first, second] },
      timeout: '2m',
    })
    if (isolated) front.before = async (request) => {
      const when = momentOf(request, (await job.status()).phase ?? '')
      if (when !== undefined) await look(when)
    }
    let result: JobResult
    try {
      await until('the first checkpoint', async () => {
        const { step, checkpointSha } = await job.status()
        return step?.includes('second') === true && checkpointSha !== null
      }, 300_000)
      if (isolated) await look('between')
      const { provider, sandboxId } = await job.status()
      expect(provider).toBe(first)
      if (isolated) await expectHostRefuses(first, sandboxId!)
      await providerOf(first).kill(sandboxId!, { timeoutMs: 10_000 })
      result = await job.result({ timeoutMs: 150_000 })
    } finally {
      front.before = () => Promise.resolve()
    }
    expect(result).toMatchObject({
      status: 'succeeded',
      attempts: [{ provider: first, outcome: 'lost' }, { provider: second, outcome: 'succeeded' }],
      promoted: { to: `moved/${mode}`, sha: result.commit },
      diff: { paths: ['bytes.bin', 'canary.txt', 'head.txt', 'once.txt', 'third.txt', 'twice.txt'] },
    })
    const promoted = await deployment.checkout('acme/web', `moved/${mode}`, false)
    expect(await readFile(join(promoted, 'twice.txt'), 'utf8')).toBe(await readFile(join(promoted, 'once.txt'), 'utf8'))
    expect(await readFile(join(promoted, 'head.txt'), 'utf8')).toBe('Own\n')
    expect(await readFile(join(promoted, 'bytes.bin'))).toEqual(Buffer.from([0, 255]))
    await git(promoted, 'fsck', '--strict')
    if (isolated) {
      const moments = (at: string) => [...new Set(searches.filter(({ provider }) => provider === at).map(({ when }) => when))].toSorted()
      expect([moments(first), moments(second)]).toEqual([['between', 'clone', 'push'], ['after the push', 'clone', 'push']])
      for (const found of searches) if (found.when !== 'clone') expect(found.seesFiles, found.when).toBe(true)
      expectHidden(searches, mode)
    }
    // The checkpoints are deleted once the work is on its branch; a minute later where the host took long.
    const left = (attempt: number) => host.branchHead('acme/web', { name: checkpointBranch(job.jobId, 1, attempt), ephemeral: true }, { timeoutMs: 10_000 })
    await until('the checkpoints are deleted', async () => (await Promise.all([1, 2].map(left))).every((sha) => sha === null), 120_000)
  }, 300_000)
})

describe('a sandbox without network', () => {
  // Counts the network interfaces that there are besides the loopback.
  const spec: JobSpecInput = { repository: 'acme/web', steps: ['grep -v lo: /proc/net/dev | grep -c : || true; echo new > new.txt'], network: 'none' }

  // CI has this machine's own sandbox, and one whose provider is told of it.
  it.skipIf(!isolated).each(spanning([['local-brokered'], ['e2b-brokered'], ['daytona-brokered']], 'local-brokered'))('is enough for a whole job where commits are brokered: %s', async (name) => {
    const job = await deployment.queue.enqueue({ ...spec, providers: { allow: [name] }, promote: { to: `alone/${name}` } })
    const result = await job.result({ timeoutMs: 150_000 })
    expect(result).toMatchObject({ status: 'succeeded', error: null, steps: [{ stdoutTail: '0\n' }], diff: { paths: ['new.txt'] }, promoted: { sha: result.commit } })
  })

  it('is refused with the mend where they are not', async () => {
    const job = await deployment.queue.enqueue({ ...spec, providers: { allow: ['local-minted', 'e2b-injected'] } })
    expect(await job.result({ timeoutMs: 150_000 })).toMatchObject({
      status: 'failed',
      error: { kind: 'invalid', message: 'no live consumer of this deployment can run this job: network: none of local-minted, e2b-injected can enforce "none"; use "git-only" or "open", or a provider that can, configured with credentials: "brokered"' },
      attempts: [],
    })
  })
})

it('a consumer does not start with injected credentials at a provider that can’t inject', async () => {
  const { provider, limit } = providers[0]!
  await expect(deployment.startConsumer({ providers: [{ provider, limit, credentials: 'injected' }] })).rejects.toThrow(/^credentials: "injected" needs a provider that adds headers outside of its sandboxes, and "local-minted" \(local\) does not; use "brokered"/)
})
