import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { NetworkPolicy } from '../../src/job/spec.js'
import { sortStartFailure } from '../../src/providers/daytona/start-failure.js'
import type { DaytonaServerOptions } from '../servers/daytona/server.js'
import { verdictOf } from '../../src/providers/daytona/name-enforcement.js'
import { bestPlaces, bubblewrapWorks } from '../servers/bubblewrap-places.js'
import { failureOf, sandboxRequest, soon, startDaytona, type DaytonaFixture } from './daytona-fixture.js'

const fixtures: DaytonaFixture[] = []
afterAll(() => Promise.all(fixtures.map((fixture) => fixture.close())))
/** Taking the network away takes bubblewrap. */
const enforceable = await bubblewrapWorks()

async function start(options: DaytonaServerOptions, config: Readonly<Record<string, unknown>> = {}): Promise<DaytonaFixture> {
  const fixture = await startDaytona(options, config)
  fixtures.push(fixture)
  return fixture
}

/** Words of registries, engines, runners and of Daytona itself, and whose fault each is. */
const reasons: readonly [string, 'passing' | 'the image’s' | 'no room', ('error' | 'build_failed')?][] = [
  ['Timeout while pulling snapshot', 'passing'],
  ['Timeout while pulling snapshot to runner', 'passing'],
  ['Timeout while creating sandbox', 'passing'],
  ['Timeout while building snapshot on runner', 'passing', 'build_failed'],
  ['build timed out after 60 minutes: context deadline exceeded', 'passing', 'build_failed'],
  ['toomanyrequests: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit', 'passing'],
  ['toomanyrequests: retry-after: 612.5µs, allowed: 44000/minute', 'passing', 'build_failed'],
  ['unexpected status from HEAD request to https://registry.example.com/v2/acme/agent/manifests/1: 429 Too Many Requests', 'passing', 'build_failed'],
  ['received unexpected HTTP status: 503 Service Unavailable', 'passing'],
  ['error parsing HTTP 502 response body: invalid character: bad gateway', 'passing'],
  ['failed to authorize: failed to fetch anonymous token: unexpected status: 500', 'passing', 'build_failed'],
  ['failed to resolve reference "docker.io/acme/agent:1": unexpected status from HEAD request: 504 Gateway Timeout', 'passing', 'build_failed'],
  ['Get "https://registry-1.docker.io/v2/": net/http: TLS handshake timeout', 'passing'],
  ['dial tcp 10.0.0.1:443: i/o timeout', 'passing'],
  ['read tcp 10.0.0.2:4711->10.0.0.1:443: read: connection reset by peer', 'passing', 'build_failed'],
  ['dial tcp: lookup registry.example.com on 10.0.0.53:53: server misbehaving', 'passing'],
  ['unexpected EOF', 'passing', 'build_failed'],
  ['Can not connect to the Docker daemon at unix:///var/run/docker.sock', 'passing'],
  ['write /var/lib/docker/tmp/x: no space left on device', 'passing', 'build_failed'],
  ['No internal registry found for sandbox snapshot', 'passing'],
  ['Sandbox has no runner and backup is not completed', 'passing'],
  ['something nobody has seen', 'passing'],
  ['manifest for acme/agent:1 not found: manifest unknown: manifest unknown', 'the image’s', 'build_failed'],
  ['failed to resolve source metadata for docker.io/acme/agent:1: docker.io/acme/agent:1: not found', 'the image’s', 'build_failed'],
  ['pull access denied for acme/agent, repository does not exist or may require \'docker login\'', 'the image’s'],
  ['unauthorized: authentication required', 'the image’s'],
  ['no matching manifest for linux/amd64 in the manifest list entries', 'the image’s'],
  ['image sha256:1 architecture (arm64) is not x64 compatible', 'the image’s'],
  ['timeout waiting for the sandbox to start - please ensure that your entrypoint is long-running', 'the image’s'],
  ['something nobody has seen', 'the image’s', 'build_failed'],
  ['No available runners', 'no room'],
  ['no free GPU on runner (capacity 8)', 'no room'],
]
const expectedKinds = { passing: 'transient', 'the image’s': 'invalid', 'no room': 'capacity' } as const

describe('a sandbox of Daytona’s that did not start', () => {
  it.each(reasons)('for "%s" is %s', (reason, whose, state = 'error') => {
    expect(sortStartFailure({ state, reason, image: 'acme/agent:1' }).kind).toBe(expectedKinds[whose])
  })

  it('is not sorted by the words in its image’s name', () => {
    for (const image of ['registry.example.com/timeout/rate-limit:503', 'acme/too-many-requests', 'docker.io/acme/toomanyrequests:1']) {
      for (const name of [image, image.replace('docker.io/', '')]) expect(sortStartFailure({ state: 'build_failed', reason: `manifest for ${name} not found: manifest unknown`, image }).kind).toBe('invalid')
    }
    expect(sortStartFailure({ state: 'error', reason: 'manifest-unknown/denied:1: TLS handshake timeout', image: 'manifest-unknown/denied:1' }).kind).toBe('transient')
  })

  it('says so with the state that it had before it was deleted', async () => {
    const { server, create } = await start({
      startFailures: {
        'acme/busy:1': { state: 'build_failed', reason: 'toomanyrequests: You have reached your pull rate limit' },
        // Nothing but the state tells that it is the build's own failure.
        'acme/broken:1': { state: 'build_failed', reason: 'exit code 3' },
        'acme/odd:1': { state: 'error', reason: 'exit code 3' },
      },
    })
    const failed = async (image: string) => {
      const { kind, message } = await failureOf(create({ image }))
      return { kind, message }
    }
    expect(await failed('acme/busy:1')).toEqual({ kind: 'transient', message: expect.stringMatching(/image "acme\/busy:1" did not start, which is not its own fault \(toomanyrequests/) as string })
    expect(await failed('acme/broken:1')).toEqual({ kind: 'invalid', message: expect.stringMatching(/image "acme\/broken:1" can't be built or pulled.*exit code 3.*name one that exists/) as string })
    expect((await failed('acme/odd:1')).kind).toBe('transient')
    await expect.poll(() => server.records.list()).toEqual([])
  })

  it('keeps its place when it could not be deleted', async () => {
    const { server, create } = await start({ startFailures: { 'acme/broken:1': { state: 'build_failed', reason: 'exit code 3' } } })
    server.plan.add({ call: 'delete', action: 'status', status: 409, message: 'Sandbox state change in progress' })
    expect(await failureOf(create({ image: 'acme/broken:1' }))).toMatchObject({ kind: 'invalid', sandboxMayExist: true })
  })
})

describe('an inactive snapshot of the operator’s entry', () => {
  it('is activated by the first create, which then succeeds', async () => {
    const { server, create } = await start({ snapshots: { weekly: 'inactive' } }, { snapshot: 'weekly' })
    expect((await create()).id).not.toBe('')
    expect([server.createBodies.length, server.plan.calls()['activate']]).toEqual([2, 1])
  })

  it('is activated at the start, which is said', async () => {
    const { provider, server } = await start({ snapshots: { weekly: 'inactive' } }, { snapshot: 'weekly' })
    expect(await provider.check(soon)).toEqual([expect.stringMatching(/snapshot "weekly" is inactive.*it is being activated/)])
    expect(server.plan.calls()['activate']).toBe(1)
  })

  it.each([
    ['is refused', { refused: 'Snapshot quota exceeded' }, 'invalid', /of this provider's entry is inactive \(Snapshot quota exceeded\); activate or build it/],
    ['fails', 'error', 'invalid', /of this provider's entry is error \(the pull failed\)/],
    ['has to wait for the deactivation', { refused: 'Snapshot deactivation is still in progress. Please try again in a few minutes.' }, 'transient', /can be activated again in some minutes/],
  ] as const)('whose activation %s', async (_what, activation, kind, says) => {
    const { provider, create } = await start({ snapshots: { weekly: 'inactive' }, activation }, { snapshot: 'weekly' })
    const error = await failureOf(create())
    expect(error).toMatchObject({ kind, message: expect.stringMatching(says) as string })
    if (activation !== 'error') expect((await failureOf(provider.check(soon))).kind).toBe(kind)
  })

  it('is not one that a job names: that is the job’s', async () => {
    const { server, create } = await start({ snapshots: { weekly: 'inactive', mine: 'active' } }, { snapshot: 'mine' })
    expect(await failureOf(create({ image: 'snapshot:weekly' }))).toMatchObject({ kind: 'invalid', message: expect.stringContaining('Snapshot weekly is inactive') as string })
    expect(server.plan.calls()['activate']).toBeUndefined()
  })
})

describe('a list of hosts that Daytona would refuse', () => {
  const names = (count: number) => Array.from({ length: count }, (_each, index) => `host-${index}.example.com`)
  const ranges = (count: number) => Array.from({ length: count }, (_each, index) => `10.${index}.0.0/16`)
  let daytona: DaytonaFixture
  beforeAll(async () => {
    daytona = await start({ pool: { cpu: 100, memoryGiB: 100, diskGiB: 300 } })
  })

  it.each<[NetworkPolicy, string[], RegExp | undefined]>([
    [names(9), ['git.example.com'], undefined],
    [names(10), ['host-1.example.com'], undefined],
    [names(10), ['git.example.com'], /has 11 names with the git host's, and Daytona lets at most 10 through/],
    [ranges(9), ['10.99.0.1:8443'], undefined],
    [ranges(10), ['10.99.0.1'], /has 11 addresses and ranges/],
    [[...names(10), ...ranges(10)], ['host-1.example.com'], undefined],
    [['a.b.cc', '*.Example.COM', `${'x'.repeat(63)}.example.com`], ['git.example.com'], undefined],
    [['example.c0m'], ['git.example.com'], /"example.c0m" is no IPv4 address, IPv4 range or domain name/],
    [[`${'x'.repeat(64)}.example.com`], ['git.example.com'], /is no IPv4 address/],
    [['exa_mple.com'], ['git.example.com'], /is no IPv4 address/],
    [['*.*.example.com'], ['git.example.com'], /is no IPv4 address/],
    [['*'], ['git.example.com'], /is no IPv4 address/],
    [['localhost'], ['git.example.com'], /is no IPv4 address/],
    [['10.0.0.0/33'], ['git.example.com'], /is no IPv4 address/],
    [['10.0.0/8'], ['git.example.com'], /is no IPv4 address/],
    [['10.0.0.0/8/8'], ['git.example.com'], /is no IPv4 address/],
    [['2001:db8::/32'], ['git.example.com'], /is an IPv6 address/],
  ])('%j beside %j', async (network, gitHosts, refused) => {
    const before = daytona.server.createBodies.length
    const made = daytona.create({ network, gitHosts })
    if (refused === undefined) {
      // The server checks the lists as the makers' own does.
      await daytona.provider.kill((await made).id, soon)
      expect(daytona.provider.refusal({ network, gitHosts, resources: {} })).toBeUndefined()
    } else {
      expect(await failureOf(made)).toMatchObject({ kind: 'invalid', message: expect.stringMatching(refused) as string })
      expect(daytona.provider.refusal({ network, gitHosts, resources: {} })).toMatch(refused)
      expect(daytona.server.createBodies.length).toBe(before)
    }
  })

  it('has names where the runners enforce none', () => {
    const provider = daytona.another({ enforcesNames: false })
    expect(provider.refusal({ network: 'git-only', gitHosts: ['git.example.com'], resources: {} })).toContain('"git.example.com" can\'t be let through by name')
    expect(provider.refusal({ network: 'git-only', gitHosts: ['10.0.0.1'], resources: {} })).toBeUndefined()
  })
})

describe('a delete that is refused', () => {
  it('while the sandbox is made is told with its state, and succeeds later', async () => {
    const { server, provider, create } = await start({ startDelayMs: 8_000 })
    const creating = create().catch(() => undefined)
    await expect.poll(() => server.records.list()).toHaveLength(1)
    const { id } = server.records.list()[0]!
    const refused = await failureOf(provider.kill(id, { timeoutMs: 3_000 }))
    expect(refused).toMatchObject({ kind: 'transient', message: expect.stringContaining('refuses to delete a sandbox while its state changes, and this one is creating') as string })
    await provider.kill(id, soon)
    expect(await provider.get(id, soon)).toBeUndefined()
    await creating
  })
})

describe('a tier that takes the network away', () => {
  const policies: NetworkPolicy[] = ['none', 'git-only', ['packages.example.com']]
  const gitHosts = ['git.example.com']

  it('is found out with the first sandbox that has a policy, which nobody gets', async () => {
    const { server, provider, create } = await start({ limitedNetworkEgress: true })
    expect(provider.capabilities.network).toEqual({ gitOnly: true, none: true, allowList: true })
    expect(await failureOf(create({ network: 'git-only', gitHosts }))).toMatchObject({ kind: 'invalid', message: expect.stringContaining('the tier of this Daytona organisation sets the network') as string })
    await expect.poll(() => server.records.list()).toEqual([])
    expect(provider.capabilities.network).toEqual({ gitOnly: false, none: false, allowList: false })
    for (const network of policies) expect(provider.refusal({ network, gitHosts, resources: {} })).toContain('use tier 3 or above, or another provider')
    expect(provider.refusal({ network: 'open', gitHosts, resources: {} })).toBeUndefined()
    const before = server.createBodies.length
    expect((await failureOf(create({ network: 'none' }))).kind).toBe('invalid')
    expect(server.createBodies.length).toBe(before)
  })

  it('is found out at the start and by the doctor with any sandbox, about which nothing is changed', async () => {
    const { another, create } = await start({ limitedNetworkEgress: true })
    const { id } = await create()
    const [starting, checking] = [another(), another()]
    expect(await starting.check(soon)).toEqual([expect.stringContaining('the tier of this Daytona organisation')])
    expect(await checking.probe(id, soon)).toEqual([expect.stringContaining('the tier of this Daytona organisation')])
    for (const provider of [starting, checking]) expect(provider.capabilities.network.none).toBe(false)
  })

  it('is asked for once where it takes nothing away', async () => {
    const { server, provider, create } = await start({})
    for (const network of policies) await create({ network, gitHosts })
    expect(server.plan.calls()['network-settings']).toBe(1)
    expect(await provider.check(soon)).toEqual([])
    expect(provider.capabilities.network).toEqual({ gitOnly: true, none: true, allowList: true })
  })

  it('is not taken for absent when Daytona gives no answer', async () => {
    const { server, provider, create } = await start({})
    server.plan.add({ call: 'network-settings', action: 'status', status: 500 })
    expect(await failureOf(create({ network: 'none' }))).toMatchObject({ kind: 'transient', message: expect.stringContaining('did not say whether') as string })
    expect((await create({ network: 'none' })).id).not.toBe('')
    expect(provider.capabilities.network.none).toBe(true)
  })
})

describe('lists of names', () => {
  const gitHosts = ['git.example.com']
  const untold = { enforcesNames: undefined }

  it('that the runners do not enforce are found out with the first sandbox, which nobody gets, and go elsewhere from then on', async () => {
    const { server, create, provider } = await start({}, untold)
    expect(provider.refusal({ network: 'git-only', gitHosts, resources: {} })).toBeUndefined()
    expect(await failureOf(create({ network: 'git-only', gitHosts }))).toMatchObject({ kind: 'invalid', owner: 'consumer-configuration', message: expect.stringContaining('runners leave the network open for lists of host names') as string })
    await expect.poll(() => server.records.list()).toEqual([])
    expect(provider.refusal({ network: 'git-only', gitHosts, resources: {} })).toContain('runners leave the network open')
    const before = server.createBodies.length
    expect((await failureOf(create({ network: ['packages.example.com'], gitHosts }))).kind).toBe('invalid')
    expect(server.createBodies.length).toBe(before)
    // Addresses are another matter.
    expect((await create({ network: ['10.0.0.0/8'], gitHosts: ['10.0.0.1'] })).id).not.toBe('')
  })

  it.skipIf(!enforceable)('that they enforce are tried once', async () => {
    const { server, create } = await start({ enforcesNames: true, places: await bestPlaces() }, untold)
    await create({ network: 'git-only', gitHosts })
    const tried = server.plan.calls()['execute']
    await create({ network: 'git-only', gitHosts })
    expect([tried, server.plan.calls()['execute']]).toEqual([1, 1])
  })

  it('are tried by the doctor’s probe, which leaves nothing and warns of what it found', async () => {
    const { server, create, provider } = await start({}, untold)
    const { id } = await create({ network: 'open' })
    expect(await provider.probe(id, soon)).toEqual([expect.stringContaining('runners leave the network open for lists of host names')])
    expect(provider.refusal({ network: ['packages.example.com'], gitHosts, resources: {} })).toContain('runners leave the network open')
    const before = server.createBodies.length
    expect(await provider.probe(id, soon)).toEqual([])
    expect(server.createBodies.length).toBe(before)
    await expect.poll(() => server.records.list().map((each) => each.id)).toEqual([id])
  })

  it('whose probe breaks off are said to be untried', async () => {
    const { server, create, provider } = await start({}, untold)
    const { id } = await create({ network: 'open' })
    server.plan.add({ call: 'execute', action: 'status', status: 500, times: 1 })
    expect(await provider.probe(id, soon)).toEqual([expect.stringContaining('could not be tried')])
    await expect.poll(() => server.records.list().map((each) => each.id)).toEqual([id])
  })

  it('are not assumed to be enforced where nothing tells, unless the operator says so', async () => {
    const { server, create, another } = await start({}, untold)
    server.plan.add({ call: 'execute', action: 'status', status: 500, times: 1 })
    expect((await failureOf(create({ network: 'git-only', gitHosts }))).kind).toBe('transient')
    await expect.poll(() => server.records.list()).toEqual([])
    expect((await another({ enforcesNames: true }).create(sandboxRequest({ network: 'git-only', gitHosts }), soon)).id).not.toBe('')
  })

  it.each([
    ["fatal: repository 'https://app.daytona.io/api/switchyard-probe.git/' not found\ncode 128", false],
    ["fatal: unable to access 'https://app.daytona.io/api/': The requested URL returned error: 403\ncode 128", false],
    ["fatal: could not read Username for 'https://app.daytona.io': terminal prompts disabled\ncode 128", false],
    ["fatal: unable to access 'https://app.daytona.io/api/': Could not resolve host: app.daytona.io\ncode 128", true],
    ["fatal: unable to access 'https://app.daytona.io/api/': Failed to connect to app.daytona.io port 443 after 12 ms: Couldn't connect to server\ncode 128", true],
    ['code 124', true],
    ['no-git', undefined],
    ['', undefined],
    ["git: 'remote-https' is not a git command\ncode 128", undefined],
  ])('%s', (said, verdict) => {
    expect(verdictOf(said)).toBe(verdict)
  })
})

describe('a shell that reads start-up files', () => {
  it.each([
    ['prints', 'echo hello from the start-up file'],
    ['loses the PATH', 'PATH=/nowhere'],
    ['ends the shell', 'exit 0'],
    ['never ends', 'sleep 1000'],
  ])('reads none of the sandbox’s user: one that %s', async (_what, line) => {
    const { provider, create } = await start({ daemon: 'zsh' })
    const { id } = await create()
    const exec = (script: string) => provider.exec(id, { script }, soon)
    await provider.exec(id, { script: 'printf "%s\\n" "$LINE" >"$HOME/.zshenv"', env: { LINE: line } }, soon)
    expect(await exec('printf "%s|%s|" "$ZDOTDIR" "$SWITCHYARD_MARK"; ls / >/dev/null; exit 3')).toEqual({ exitCode: 3, stdout: '||' })
  })

  it('is named when it ends before the command, and what it prints is left out', async () => {
    const { provider, create } = await start({ daemon: 'zsh' })
    const { id } = await create()
    const { stdout: home } = await provider.exec(id, { script: 'printf %s "$HOME"' }, soon)
    const exec = (line: string) => provider.exec(id, { script: 'echo mine', env: { ZDOTDIR: `${home}/${line}` } }, soon)
    await provider.exec(id, { script: 'mkdir "$HOME/prints" "$HOME/ends"; echo "echo noise" >"$HOME/prints/.zshenv"; echo "exit 0" >"$HOME/ends/.zshenv"' }, soon)
    expect(await exec('prints')).toEqual({ exitCode: 0, stdout: 'mine\n' })
    expect(await failureOf(exec('ends'))).toMatchObject({ kind: 'invalid', message: expect.stringContaining('mend ~/.zshenv and /etc/zshenv') as string })
  })
})
