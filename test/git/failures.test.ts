import { describe, expect, it } from 'vitest'
import { fetchFailure, gitReason, sortGitFailure, sortHttpFailure } from '../../src/git/failures.js'
import { expectSuccess, parseRefs } from '../../src/git/ls-remote.js'
import { isLostRace } from '../../src/git/temporary-repository.js'
import { baseUrl } from '../../src/git/url.js'
import { parseChangedFiles } from '../../src/git/changed-files.js'

it('is the job’s, and not the host’s, when there is more of it than is read or worked out', () => {
  const ended = { exitCode: null, stdout: Buffer.alloc(0), stderr: '', truncated: false, timedOut: false, outOfCpu: false }
  for (const what of ['truncated', 'outOfCpu'] as const) {
    expect(() => expectSuccess('git', 'git cat-file', { ...ended, [what]: true })).toThrow(expect.objectContaining({ kind: 'invalid', owner: 'job' }) as Error)
  }
  expect(() => expectSuccess('git', 'git cat-file', { ...ended, timedOut: true })).toThrow(expect.objectContaining({ kind: 'provider-down', owner: 'git-host' }) as Error)
})

describe('sorting failures into the one vocabulary', () => {
  it.each([
    [400, 'invalid'], [401, 'auth'], [403, 'auth'], [404, 'invalid'], [408, 'transient'], [409, 'invalid'], [422, 'invalid'],
    [425, 'transient'], [429, 'rate-limited'], [500, 'transient'], [501, 'invalid'], [502, 'transient'], [503, 'transient'], [504, 'transient'],
  ] as const)('HTTP %i is %s', (status, kind) => {
    expect(sortHttpFailure({ kind: 'status', status }).kind).toBe(kind)
  })

  it.each([
    ['7', 7000],
    ['Tue, 14 Nov 2023 22:13:30 GMT', 10_000],
    ['Tue, 14 Nov 2023 22:13:10 GMT', 0],
    ['soon', undefined],
    ['', undefined],
    [null, undefined],
  ])('reads Retry-After %j as %s ms', (retryAfter, expected) => {
    expect(sortHttpFailure({ kind: 'status', status: 429, retryAfter, nowMs: 1_700_000_000_000 })).toEqual({ kind: 'rate-limited', owner: 'git-host', retryAfterMs: expected })
  })

  it.each([
    ['ECONNREFUSED', 'provider-down'], ['ENOTFOUND', 'provider-down'], ['UND_ERR_CONNECT_TIMEOUT', 'provider-down'], ['CERT_HAS_EXPIRED', 'provider-down'],
    ['ECONNRESET', 'transient'], ['UND_ERR_SOCKET', 'transient'],
  ])('a fetch that failed with %s is %s', (code, kind) => {
    const error = new TypeError('fetch failed', { cause: Object.assign(new Error('x'), { code }) })
    expect(sortHttpFailure(fetchFailure(error)).kind).toBe(kind)
  })

  it.each([
    ["fatal: unable to access 'https://h/r.git/': The requested URL returned error: 403", 'auth'],
    ["fatal: unable to access 'https://h/r.git/': The requested URL returned error: 503", 'transient'],
    ["fatal: unable to access 'https://h/r.git/': The requested URL returned error: 429", 'rate-limited'],
    ["fatal: Authentication failed for 'https://h/r.git/'", 'auth'],
    ["remote: Repository not found.\nfatal: repository 'https://h/r.git/' not found", 'invalid'],
    ["fatal: unable to access 'https://h/r.git/': Could not resolve host: h", 'provider-down'],
    ["fatal: unable to access 'https://h/r.git/': Failed to connect to h port 443", 'provider-down'],
    ['remote: denied by policy: refs/heads/main (no-push)\n ! [remote rejected] main -> main (pre-receive hook declined)', 'invalid'],
    ['remote: error: File a/HTTP 503 is 120.00 MB; this exceeds the limit\n ! [remote rejected] a -> b (pre-receive hook declined)', 'invalid'],
    ['remote: The requested URL returned error: 401\n ! [remote rejected] a -> b (pre-receive hook declined)', 'invalid'],
    ['fatal: remote error: upload-pack: not our ref 0123', 'invalid'],
    ['error: RPC failed; curl 56 Recv failure: Connection reset by peer\nfatal: early EOF', 'transient'],
    ['something new', 'transient'],
  ] as const)('git said %j: %s', (stderr, kind) => {
    expect(sortGitFailure(stderr, false).kind).toBe(kind)
  })

  it('takes a command that did not end in time for a host that does not answer', () => {
    expect(sortGitFailure('', true).kind).toBe('provider-down')
  })

  it('gives the line that tells why', () => {
    expect(gitReason('warning: x\nremote: denied by policy: a (no-push)\nerror: failed to push')).toBe('remote: denied by policy: a (no-push)')
    expect(gitReason('hint: x\nfatal: early EOF\n')).toBe('fatal: early EOF')
    expect(gitReason('')).toBe('git said nothing')
  })
})

describe('reading what git prints', () => {
  it('keeps only the refs that were asked for, tags followed to their commit', () => {
    const [a, b, c] = ['a', 'b', 'c'].map((letter) => letter.repeat(40))
    const output = `ref: refs/heads/main\tHEAD\n${a}\tHEAD\n${a}\trefs/heads/main\n${b}\trefs/other/refs/heads/main\n${b}\trefs/tags/v1\n${c}\trefs/tags/v1^{}\n`
    const { refs, headRef } = parseRefs(output, new Set(['refs/heads/main', 'refs/tags/v1']))
    expect([...refs]).toEqual([['refs/heads/main', a], ['refs/tags/v1', c]])
    expect(headRef).toBe('refs/heads/main')
  })

  it.each([
    ['!\ta:refs/heads/x\t[rejected] (stale info)', true],
    ['!\ta:refs/heads/x\t[rejected] (fetch first)', true],
    ['!\ta:refs/heads/x\t[remote rejected] (failed to update ref)', true],
    ['!\ta:refs/heads/x\t[remote rejected] (pre-receive hook declined)', false],
    [' \ta:refs/heads/x\t1..2', false],
  ])('a push report %j is a lost race: %s', (line, lost) => {
    expect(isLostRace(`To https://h/r.git\n${line}\nDone\n`)).toBe(lost)
  })

  it('reads renames, binary files and names with spaces', () => {
    const output = `:100644 100644 a b R100\0old name\0new name\0:100644 100644 a b M\0bin\0:000000 100644 0 b A\0new\0` + `0\t0\t\0old name\0new name\0-\t-\tbin\0` + `3\t0\tnew\0`
    expect(parseChangedFiles(output)).toEqual([
      { path: 'new name', oldPath: 'old name', state: 'R100', additions: 0, deletions: 0, contentChanged: true, modeChanged: false },
      { path: 'bin', oldPath: null, state: 'M', additions: 0, deletions: 0, contentChanged: true, modeChanged: false },
      { path: 'new', oldPath: null, state: 'A', additions: 3, deletions: 0, contentChanged: true, modeChanged: true },
    ])
  })
})

describe('base URLs', () => {
  it.each(['https://git.example.com', 'https://git.example.com/prefix/', 'http://127.0.0.1:8080', 'http://localhost:1', 'http://[::1]:1'])('takes %s', (url) => {
    expect(baseUrl('url', url)).toBe(url.replace(/\/$/, ''))
  })
  it.each(['git.example.com', 'http://git.example.com', 'ssh://git@host', 'file:///etc', 'https://user:secret@host', 'https://host?x=1', 'ext::sh -c touch'])('refuses %s', (url) => {
    expect(() => baseUrl('url', url)).toThrow(/^url: /)
    expect(() => baseUrl('url', url)).not.toThrow(/secret/)
  })
})
