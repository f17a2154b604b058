import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { gitHostFromConfig, httpsGitConfigSchema, HttpsGitHost, type GitHost, type PullRequestRequest } from '../../src/git/index.js'
import { forgeAt } from '../../src/git/pull-requests/open.js'
import { withBreaker } from '../../src/git/breaker.js'
import { InfrastructureError } from '../../src/job/errors.js'
import { addRequest, forgeKinds, startForgeServer, type Fault, type ForgeServer } from '../servers/forges/server.js'

const options = { timeoutMs: 5_000 }
const request: PullRequestRequest = { repository: 'acme/web', head: 'fix/it', base: undefined, title: 'Fix it', body: 'It was broken.\n\n`switchyard abc`', draft: false, labels: [], reviewers: [], mark: 'switchyard abc' }

function hostOf(server: ForgeServer, token = server.token): GitHost {
  const username = server.kind === 'bitbucket' ? 'someone' : 'x-access-token'
  return withBreaker(new HttpsGitHost({ url: 'https://git.example.com', token: async () => ({ username, token }), api: { kind: server.kind, url: server.url } }), { now: Date.now })
}

describe.each(forgeKinds)('a pull request at %s', (kind) => {
  let server: ForgeServer
  let asked: number
  beforeEach(async () => {
    server = await startForgeServer(kind)
    server.state.branches.add('fix/it')
    asked = 0
  })
  afterEach(() => server.close())

  const open = (changes: Partial<PullRequestRequest> = {}, host = hostOf(server)) => host.openPullRequest!({ ...request, ...changes }, options, () => {
    asked += 1
    return Promise.resolve()
  })
  const failure = async (changes: Partial<PullRequestRequest> = {}, host?: GitHost) => {
    const error = await open(changes, host).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(InfrastructureError)
    expect((error as Error).message).not.toContain(server.token)
    return error as InfrastructureError
  }

  it('is opened to the default branch, and updated when it is asked for again, also by a later job', async () => {
    const first = await open({ draft: true })
    expect(first).toMatchObject({ number: 1, base: 'main', action: 'opened', problems: [] })
    expect(first?.url).toMatch(new RegExp(`^https://${kind}\\.example/acme/web/.*/1$`))
    expect(server.state.requests).toMatchObject([{ head: 'fix/it', base: 'main', title: kind === 'gitlab' ? 'Draft: Fix it' : 'Fix it', draft: true, state: 'open' }])
    expect(await open()).toMatchObject({ number: 1, action: 'opened' })
    expect(await open({ title: 'Fix it well', body: 'More.\n\n`switchyard def`', mark: 'switchyard def' })).toMatchObject({ number: 1, action: 'updated' })
    expect(server.state.requests).toMatchObject([{ title: 'Fix it well', body: 'More.\n\n`switchyard def`' }])
    expect(asked).toBe(1)
  })

  it('becomes ready, and a draft again, when it is asked for so', async () => {
    const stands = () => server.state.requests.map(({ draft, title }) => [draft, title])
    const draftTitle = kind === 'gitlab' ? 'Draft: Fix it' : 'Fix it'
    await open({ draft: true })
    expect(await open({ draft: false })).toMatchObject({ number: 1, problems: [] })
    expect(stands()).toEqual([[false, 'Fix it']])
    expect(await open({ draft: true })).toMatchObject({ number: 1, problems: [] })
    expect(stands()).toEqual([[true, draftTitle]])
    const calls = server.calls.length
    await open({ draft: true })
    expect(server.calls.slice(calls).filter((call) => call.includes('graphql'))).toEqual([])
    if (kind !== 'github') return
    // A server of one's own has both below /api.
    const own = withBreaker(new HttpsGitHost({ url: 'https://git.example.com', token: async () => ({ username: 'x-access-token', token: server.token }), api: { kind, url: `${server.url}/api/v3` } }), { now: Date.now })
    expect(await open({ draft: false }, own)).toMatchObject({ number: 1, problems: [] })
    expect(server.calls.at(-1)).toBe('POST api/graphql')
    expect(stands()).toEqual([[false, 'Fix it']])
    // What is refused is said, and fails nothing.
    server.state.noDrafts = true
    expect((await open({ draft: true }))?.problems).toEqual(['it was not made a draft: Draft pull requests are not supported in this repository.'])
    server.state.noDrafts = false
    server.fault = ({ path }) => (path === 'graphql' ? { status: 403, body: { message: 'Resource not accessible by integration' } } : undefined)
    expect((await open({ draft: true }))?.problems).toEqual(['it was not made a draft: Resource not accessible by integration'])
    server.fault = ({ path }) => (path === 'graphql' ? { status: 502, body: '<html>' } : undefined)
    expect(await failure({ draft: true })).toMatchObject({ kind: 'transient', owner: 'git-host' })
  })

  it('is one, whichever answer is lost, and whoever asks at the same time', async () => {
    let lost = 0
    server.fault = ({ method, when }) => (method === 'POST' && when === 'after' && lost++ === 0 ? 'drop' : undefined)
    expect(await failure()).toMatchObject({ kind: 'transient', owner: 'git-host' })
    expect(await open()).toMatchObject({ number: 1, action: 'opened' })
    // Opened by somebody else between the look and the call.
    server.state.branches.add('other')
    server.fault = ({ method, when }) => {
      if (method === 'POST' && when === 'before') addRequest(server.state, { head: 'other', base: 'main', title: 'Theirs', body: '', draft: false })
      return undefined
    }
    expect(await open({ head: 'other' })).toMatchObject({ number: 2 })
    expect(server.state.requests.map(({ number, title }) => `${number} ${title}`)).toEqual(['1 Fix it', '2 Fix it'])
    expect(server.state.requests.filter(({ state }) => state === 'open')).toHaveLength(2)
  })

  it('that was opened by a call whose answer was lost, and merged since, is not opened again', async () => {
    addRequest(server.state, { head: 'fix/it', base: 'main', title: 'Older', body: 'another', draft: false, state: 'closed' })
    addRequest(server.state, { head: 'fix/it', base: 'main', title: 'Fix it', body: request.body, draft: false, state: 'merged' })
    expect(await open()).toMatchObject({ number: 2, action: 'found' })
    expect(asked).toBe(0)
    // Another job's own is another.
    expect(await open({ mark: 'switchyard xyz', body: '`switchyard xyz`' })).toMatchObject({ number: 3, action: 'opened' })
  })

  it('gets labels and reviewers, and says which it could not', async () => {
    const [known, unknown] = kind === 'bitbucket' ? ['{7}', 'nobody'] : ['ada', 'nobody']
    const labels = ['bug', 'needs review']
    const made = await open({ labels, reviewers: [known] })
    expect(made?.problems).toEqual(kind === 'bitbucket' ? ['it has no labels, which Bitbucket does not know'] : [])
    expect(server.state.requests[0]).toMatchObject({ labels: kind === 'bitbucket' ? [] : labels, reviewers: [known] })
    const again = await open({ labels: ['more'], reviewers: [unknown] })
    expect(again?.problems.join('\n')).toMatch(/reviewer/)
    if (kind !== 'bitbucket') expect(server.state.requests[0]?.labels).toEqual([...labels, 'more'])
  })

  it('is not asked for when there is nothing in it, and refused by name when its base is not there', async () => {
    expect(await failure({ base: 'release/9' })).toMatchObject({ kind: 'invalid', owner: 'job', message: expect.stringMatching(/"fix\/it" to "release\/9" is refused.*promote\.pullRequest \(base/) as string })
    expect(await failure({ head: 'main' })).toMatchObject({ kind: 'invalid', owner: 'job' })
    if (kind === 'gitlab') return
    server.state.same.add('fix/it main')
    expect(await open()).toBeNull()
  })

  it.each<readonly [string, Fault, object]>([
    ['401', { status: 401 }, { kind: 'auth', owner: 'consumer-keys', code: 'SWY_CONSUMER_KEY_REFUSED' }],
    ['403', { status: 403, body: { message: 'Resource not accessible by integration' } }, { kind: 'auth', owner: 'consumer-keys' }],
    ['404', { status: 404 }, { kind: 'auth', owner: 'consumer-keys' }],
    ['403 for too many calls', { status: 403, headers: { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': String(Math.ceil(Date.now() / 1000) + 60) } }, { kind: 'rate-limited', owner: 'git-host' }],
    ['429', { status: 429, headers: { 'retry-after': '7' } }, { kind: 'rate-limited', owner: 'git-host', retryAfterMs: 7_000 }],
    ['500', { status: 500 }, { kind: 'transient', owner: 'git-host' }],
    ['502 with a page', { status: 502, body: '<html>' }, { kind: 'transient', owner: 'git-host' }],
    ['a broken connection', 'drop', { kind: 'transient', owner: 'git-host' }],
    ['no answer', 'hang', { kind: 'provider-down', owner: 'git-host' }],
    ['a redirect elsewhere', { status: 301, headers: { location: 'http://127.0.0.1:1/steal' } }, { kind: 'invalid', owner: 'consumer-configuration' }],
    ['a body that is none', { status: 200, body: { number: 'x' } }, { kind: 'transient', owner: 'git-host' }],
    ['a link that is none', { status: 200, body: [{ number: 1, html_url: 'javascript:alert(1)', state: 'open' }] }, { kind: 'transient', owner: 'git-host' }],
  ])('blames the right one for %s', async (_what, fault, expected) => {
    server.fault = ({ when }) => (when === 'before' ? fault : undefined)
    const host = hostOf(server)
    const error = await host.openPullRequest!(request, { timeoutMs: fault === 'hang' ? 200 : 5_000 }, () => Promise.resolve()).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject(expected)
    expect(server.state.requests).toEqual([])
  })

  it('tells nothing of its key that a refusal quotes', async () => {
    const encoded = (name: string) => Buffer.from(`${name}:${server.token}`).toString('base64')
    for (const quoted of [server.token, ...['x', 'xy', 'x-access-token'].map(encoded)]) {
      server.fault = ({ when }) => (when === 'before' ? { status: 403, body: { message: `no, with ${quoted}` } } : undefined)
      const { message } = await failure()
      expect(message).toContain('no, with ')
      expect(message).not.toContain(quoted.slice(-16, -4))
    }
  })

  it('is not opened when the job is another consumer’s by then', async () => {
    await expect(hostOf(server).openPullRequest!(request, options, () => Promise.reject(new Error('not mine')))).rejects.toThrow('not mine')
    expect(server.state.requests).toEqual([])
    expect(await failure({}, hostOf(server, 'wrong'))).toMatchObject({ kind: 'auth', owner: 'consumer-keys' })
  })
})

it('has no command of GitLab’s in it', async () => {
  const server = await startForgeServer('gitlab')
  server.state.branches.add('fix/it')
  await hostOf(server).openPullRequest!({ ...request, body: `/merge\n  /close\ntext /approve\n\n${request.mark}` }, options, () => Promise.resolve())
  expect(server.state.requests).toMatchObject([{ state: 'open', body: `\\/merge\n  \\/close\ntext /approve\n\n${request.mark}` }])
  await server.close()
})

it('finds the API by the host, or by what is configured', () => {
  expect(forgeAt('https://github.com', undefined)).toEqual({ kind: 'github', url: 'https://api.github.com' })
  expect(forgeAt('https://gitlab.com', undefined)).toEqual({ kind: 'gitlab', url: 'https://gitlab.com/api/v4' })
  expect(forgeAt('https://bitbucket.org', undefined)).toEqual({ kind: 'bitbucket', url: 'https://api.bitbucket.org/2.0' })
  expect(forgeAt('https://git.example.com/base', { kind: 'github' })).toEqual({ kind: 'github', url: 'https://git.example.com/api/v3' })
  expect(forgeAt('https://git.example.com', { kind: 'gitlab', url: 'https://api.example.com' })).toEqual({ kind: 'gitlab', url: 'https://api.example.com' })
  expect(forgeAt('https://git.example.com', undefined)).toBeNull()
  expect(new HttpsGitHost({ url: 'https://git.example.com', token: async () => ({ username: 'a', token: 'b' }) }).openPullRequest).toBeUndefined()
})

it('is opened with a key of its own where there is one', async () => {
  const server = await startForgeServer('github')
  server.state.branches.add('fix/it')
  const config = httpsGitConfigSchema.parse({ url: 'https://git.example.com', tokenEnv: 'PUSH', api: { kind: 'github', url: server.url, tokenEnv: 'API' } })
  const host = gitHostFromConfig(config, { PUSH: 'pushes only', API: server.token })
  expect(await host.openPullRequest!(request, options, () => Promise.resolve())).toMatchObject({ action: 'opened' })
  expect(() => gitHostFromConfig(config, { PUSH: 'x' })).toThrow('git.api.tokenEnv: the environment variable API is not set')
  await server.close()
})
