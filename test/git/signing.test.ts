import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { CodeStorageHost, HttpsGitHost, TokenMinter, type GitHost } from '../../src/git/index.js'
import type { SigningOptions } from '../../src/git/signature.js'
import { allowedSigners, checkText, publicKeyOf, signatureCheck } from '../../src/git/signing.js'
import { parseCommit } from '../../src/git/sign-branch.js'
import { whole } from '../whole.js'
import { commitFile, git, gitOk, localStorage, org, withToken, workTree, type LocalStorage } from './local-storage.js'

const options = { timeoutMs: 60_000 }
const added = { message: 'Work of job j\n\nAgent-Job: j\n', author: { name: 'Ann', email: 'ann@example.invalid' }, committer: { name: 'Switchyard', email: 'switchyard@localhost' } }

function installed(name: string): boolean {
  try {
    execFileSync(name, ['--version'], { stdio: 'ignore' })
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT'
  }
}

/** Keys as an operator makes them. */
function sshKey(folder: string, name: string): { key: string; publicKey: string } {
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', join(folder, name)])
  return { key: readFileSync(join(folder, name), 'utf8'), publicKey: readFileSync(join(folder, `${name}.pub`), 'utf8') }
}
function openPgpKey(): { key: string; publicKey: string } {
  const home = mkdtempSync(join(tmpdir(), 'gpg-'))
  const gpg = (...args: string[]) => execFileSync('gpg', ['--homedir', home, '--batch', '--no-tty', '--quiet', '--passphrase', '', '--pinentry-mode', 'loopback', ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  try {
    gpg('--quick-generate-key', 'Switchyard <sign@example.invalid>', 'ed25519', 'sign', 'never')
    return { key: gpg('--armor', '--export-secret-keys'), publicKey: gpg('--armor', '--export') }
  } finally {
    execFileSync('gpgconf', ['--homedir', home, '--kill', 'all'], { stdio: 'ignore' })
    rmSync(home, { recursive: true, force: true, maxRetries: 10 })
  }
}

const keyFolder = mkdtempSync(join(tmpdir(), 'switchyard-test-keys-'))
const ssh = sshKey(keyFolder, 'signing')
const stranger = sshKey(keyFolder, 'stranger')
const hasGpg = installed('gpg')
const pgp = hasGpg ? openPgpKey() : null

let storage: LocalStorage
let work: string
let base: string
let numbers = 0
beforeAll(async () => {
  // What is left there can only be from here.
  vi.stubEnv('TMPDIR', keyFolder)
  storage = await localStorage({ signingKeys: [ssh.publicKey, ...(pgp === null ? [] : [pgp.publicKey])] })
  await storage.host.client.createRepository('acme/web', 'main', options)
  work = await workTree(storage.folder, 'work')
  base = await commitFile(work, 'file.txt', 'one\n')
  await gitOk(work, 'push', '--quiet', storage.url(await storage.sdk.repo({ id: 'acme/web' }).getRemoteURL({ ttl: 600 })), 'main')
})
afterAll(async () => {
  await storage.close()
  vi.unstubAllEnvs()
  rmSync(keyFolder, { recursive: true, force: true, maxRetries: 10 })
})

function hostWith(signing: Partial<SigningOptions> = {}): CodeStorageHost {
  const all = { format: 'ssh', mode: 'add', key: () => ssh.key, verifyAtTarget: false, provenance: false, publicKeys: [], ...signing } as const
  return new CodeStorageHost({ org, privateKey: storage.privateKey, storageUrl: storage.server.url, apiUrl: storage.server.apiUrl, signing: all })
}

/** A job's branch: what the agent committed, and what Switchyard added to it or not. */
async function jobBranch(shape: 'added' | 'agent alone' | 'merged'): Promise<{ branch: string; sha: string }> {
  const branch = `agent/j${++numbers}`
  await gitOk(work, 'checkout', '--quiet', '--detach', base)
  await commitFile(work, `agent-${numbers}.txt`, 'x\n')
  if (shape === 'merged') {
    const first = await gitOk(work, 'rev-parse', 'HEAD')
    await gitOk(work, 'checkout', '--quiet', '--detach', base)
    await commitFile(work, 'side.txt', 'x\n')
    await gitOk(work, 'merge', '--quiet', '--no-ff', '-m', 'Joined — with “quotes”', first)
  }
  if (shape === 'added') {
    const tree = await gitOk(work, 'write-tree')
    const made = execFileSync('git', ['commit-tree', tree, '-p', 'HEAD'], {
      cwd: work,
      input: added.message,
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], GIT_AUTHOR_NAME: 'Ann', GIT_AUTHOR_EMAIL: 'ann@example.invalid', GIT_COMMITTER_NAME: 'Switchyard', GIT_COMMITTER_EMAIL: 'switchyard@localhost', GIT_COMMITTER_DATE: '@1700000000 +0100', GIT_AUTHOR_DATE: '@1700000000 +0100' },
    }).trim()
    await gitOk(work, 'reset', '--quiet', '--hard', made)
  }
  const sha = await gitOk(work, 'rev-parse', 'HEAD')
  await gitOk(work, 'push', '--quiet', withToken(await storage.host.writeAccess('acme/web', { branch })), `HEAD:refs/heads/${branch}`)
  return { branch, sha }
}

async function fetched(branch: string): Promise<string> {
  await gitOk(work, 'fetch', '--quiet', withToken(await storage.host.readAccess('acme/web', { ephemeral: true })), branch)
  return gitOk(work, 'rev-parse', 'FETCH_HEAD')
}

const trees = (range: string) => gitOk(work, 'log', '--format=%T %an %ae %s', range)

describe.each([
  ['ssh', ssh],
  ...(pgp === null ? [] : [['openpgp', pgp] as const]),
] as const)('a consumer signs with an %s key', (format, { key, publicKey }) => {
  // In CI each way that a commit is signed; what was merged is signed on top as what was not, and anew with all that is anew otherwise.
  const cases = [
    ['add', 'added', 'added', 1],
    ['add', 'agent alone', 'on top', 1],
    ...(whole ? ([['add', 'merged', 'on top', 1], ['rewrite', 'added', 'anew', 2]] as const) : []),
    ['rewrite', 'merged', 'anew', 3],
  ] as const
  // What is signed does not depend on what signs it, and gpg takes its time.
  it.each(format === 'ssh' ? cases : cases.filter(([mode, shape]) => mode === 'add' && shape === 'added'))('%s, %s: %s', async (mode, shape, how, commits) => {
    const host = hostWith({ format, mode, key: () => key })
    const { branch, sha } = await jobBranch(shape)
    const told: string[] = []
    const signed = await host.sign('acme/web', { branch, sha, baseSha: base, added }, options, async (about) => void told.push(about.sha))
    expect(signed).toMatchObject({ how, commits })
    expect(told).toEqual([signed.sha])
    expect(await fetched(branch)).toBe(signed.sha)
    // The same files by the same people; on top there is one more commit.
    expect(await trees(`${base}..${signed.sha}${how === 'on top' ? '~' : ''}`)).toBe(await trees(`${base}..${sha}`))
    expect(await gitOk(work, 'rev-parse', `${signed.sha}^{tree}`)).toBe(await gitOk(work, 'rev-parse', `${sha}^{tree}`))
    if (how !== 'anew') expect(await gitOk(work, 'rev-parse', `${signed.sha}^`)).toBe(how === 'added' ? await gitOk(work, 'rev-parse', `${sha}^`) : sha)
    if (how === 'added') expect(await gitOk(work, 'log', '-1', '--format=%B%cd', '--date=raw', signed.sha)).toBe(`${added.message}1700000000 +0100`)
    expect(await host.checkSignature('acme/web', signed.sha, [publicKey], options)).toMatchObject({ good: true })
    expect(await host.checkSignature('acme/web', signed.sha, [stranger.publicKey], options)).toMatchObject({ good: false, reason: expect.stringContaining('not known') as unknown })
    expect(await host.checkSignature('acme/web', sha, [publicKey], options)).toEqual({ good: false, reason: 'it is not signed' })
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith('switchyard-signing-'))).toEqual([])
  })

  it('gives its public half', async () => {
    expect(await publicKeyOf('x', { format, key: () => key })).toContain(format === 'ssh' ? publicKey.split(' ')[1] : 'BEGIN PGP PUBLIC KEY BLOCK')
  })
})

describe('signing', () => {
  // A failure of git's on our side read as the git host's, and would have kept all jobs from it.
  it.each([
    ['by nobody of a name', 'author ... <a@example.invalid> 1700000000 +0000', 'on top'],
    ['in no zone that there is', 'author Ann <a@example.invalid> 1700000000 +9959', 'anew'],
    ['without an address', 'author Ann <> 1700000000 +0000', 'anew'],
  ])('takes a commit %s', async (_what, author, how) => {
    const { sha } = await jobBranch('agent alone')
    const raw = (await gitOk(work, 'cat-file', 'commit', sha)).replace(/^author .*$/m, author)
    writeFileSync(join(keyFolder, 'raw'), `${raw}\n`)
    const odd = (await gitOk(work, 'hash-object', '-t', 'commit', '-w', '--literally', join(keyFolder, 'raw'))).trim()
    const branch = `odd-${++numbers}`
    await gitOk(work, 'push', '--quiet', withToken(await storage.host.writeAccess('acme/web', { branch })), `${odd}:refs/heads/${branch}`)
    expect(await hostWith({ mode: 'rewrite' }).sign('acme/web', { branch, sha: odd, baseSha: base, added }, options, async () => undefined)).toMatchObject({ how })
  })

  it.each([
    ['a job’s name that is another’s', 'Fix it\n\nagent-job : another\nAgent-Provider: e2b\nReviewed-by: Ann', '', 'anew', 'Fix it\n\nReviewed-by: Ann'],
    ['one in an encoding that hides it', 'Fix it\n\nAgent-Job+ADo- another', '\nencoding UTF-7', 'on top', added.message.trim()],
    ['what looks like a parent and is none to git', 'Fix it', '\nparent nonsense', 'anew', 'Fix it'],
  ])('rewrites a commit with %s', async (_what, message, header, how, signedMessage) => {
    const { sha } = await jobBranch('agent alone')
    const raw = (await gitOk(work, 'cat-file', 'commit', sha)).replace(/^(committer .*)\n\n[^]*$/m, `$1${header}\n\n${message}\n`)
    writeFileSync(join(keyFolder, 'raw'), raw)
    const forged = (await gitOk(work, 'hash-object', '-t', 'commit', '-w', '--literally', join(keyFolder, 'raw'))).trim()
    const branch = `forged-${++numbers}`
    await gitOk(work, 'push', '--quiet', withToken(await storage.host.writeAccess('acme/web', { branch })), `${forged}:refs/heads/${branch}`)
    const signed = await hostWith({ mode: 'rewrite' }).sign('acme/web', { branch, sha: forged, baseSha: base, added }, options, async () => undefined)
    expect(signed.how).toBe(how)
    await fetched(branch)
    expect(await gitOk(work, 'log', '-1', '--format=%B', signed.sha)).toBe(signedMessage)
    expect(await gitOk(work, 'log', '-1', '--format=%(trailers:key=Agent-Job,valueonly)', signed.sha)).toBe(how === 'anew' ? '' : 'j')
  })

  it('blames the key, and not the git host, for a commit that can’t be signed', async () => {
    const { branch, sha } = await jobBranch('agent alone')
    const path = process.env['PATH'] ?? ''
    mkdirSync(join(keyFolder, 'bin'))
    writeFileSync(join(keyFolder, 'bin/ssh-keygen'), `#!/bin/sh\ncase "$*" in *"-Y sign"*) exit 1 ;; esac\nPATH='${path}' exec ssh-keygen "$@"\n`, { mode: 0o755 })
    vi.stubEnv('PATH', `${join(keyFolder, 'bin')}:${path}`)
    try {
      await expect(hostWith().sign('acme/web', { branch, sha, baseSha: base, added }, options, async () => undefined)).rejects.toMatchObject({ kind: 'invalid', owner: 'consumer-configuration' })
    } finally {
      vi.stubEnv('PATH', path)
    }
  })

  it('moves a branch from nowhere but the commit that it read', async () => {
    const { branch, sha } = await jobBranch('added')
    await gitOk(work, 'checkout', '--quiet', '--detach', sha)
    const later = await commitFile(work, 'later.txt', 'x\n')
    await gitOk(work, 'push', '--quiet', withToken(await storage.host.writeAccess('acme/web', { branch })), `HEAD:refs/heads/${branch}`)
    await expect(hostWith().sign('acme/web', { branch, sha, baseSha: base, added }, options, async () => undefined)).rejects.toThrow(/moving refs\/heads/)
    expect(await fetched(branch)).toBe(later)
    const stopped = jobBranch('added').then((job) => hostWith().sign('acme/web', { ...job, baseSha: base, added }, options, async () => Promise.reject(new Error('not mine any more'))))
    await expect(stopped).rejects.toThrow('not mine any more')
  })

  it.each([
    ['nothing', ''],
    ['a public key', ssh.publicKey],
    ['another format', pgp?.key ?? 'PGP'],
    ['noise', 'hunter2'],
  ])('refuses %s as its key, and never shows it', async (_what, key) => {
    const refused = await hostWith({ key: () => key }).check(options).then(() => null, (error: unknown) => String(error))
    expect(refused).toContain('git.signing')
    if (key !== '') expect(refused).not.toContain(key)
  })

  it('lets only signed commits to a target that asks for it', async () => {
    const promote = async (host: GitHost, mode: string, shape: 'added' | 'agent alone') => {
      const { branch, sha } = await jobBranch(shape)
      const signed = await host.sign('acme/web', { branch, sha, baseSha: base, added }, options, async () => undefined)
      return host.promote({ repository: 'acme/web', branch, sha: signed.sha, to: `to/${mode}-${numbers}`, strategy: 'ff_only', expectedTargetSha: null, message: 'm' }, options)
    }
    // Each commit that is new to the branch has to be signed, the agent's own too.
    await expect(promote(hostWith({ verifyAtTarget: true }), 'add', 'agent alone')).rejects.toThrow(/verify-sig/)
    expect(await promote(hostWith({ verifyAtTarget: true, mode: 'rewrite' }), 'rewrite', 'added')).toMatchObject({ result: 'created' })
    await expect(promote(hostWith({ verifyAtTarget: true, mode: 'rewrite', key: () => stranger.key }), 'stranger', 'added')).rejects.toThrow(/verify-sig/)
    // Only by tokens that say so.
    expect(await promote(hostWith(), 'free', 'agent alone')).toMatchObject({ result: 'created' })
    // And by git's own door.
    const { token } = await new TokenMinter({ org, privateKey: storage.privateKey }).mint({ repository: 'acme/web', scopes: ['git:write'], refs: [['*', ['verify-sig']]] })
    const remote = withToken({ url: `${storage.server.url}/acme/web.git`, username: 't', token, expiresAtMs: 0 })
    const { branch, sha } = await jobBranch('agent alone')
    const unsigned = await git(work, 'push', remote, `${sha}:refs/heads/pushed`)
    expect(unsigned.stderr).toContain(`verify-sig: ${sha} is not signed`)
    const anew = await hostWith({ mode: 'rewrite' }).sign('acme/web', { branch, sha, baseSha: base, added }, options, async () => undefined)
    await fetched(branch)
    await gitOk(work, 'push', '--quiet', remote, `${anew.sha}:refs/heads/pushed`)
  })

  it('is shown by the local Code Storage’s API so that whoever reads it can check it', async () => {
    const { branch, sha } = await jobBranch('added')
    const signed = await hostWith().sign('acme/web', { branch, sha, baseSha: base, added }, options, async () => undefined)
    const { commit } = await storage.sdk.repo({ id: 'acme/web' }).getCommit({ sha: signed.sha })
    const [file, allowed] = [join(keyFolder, 'signature'), join(keyFolder, 'allowed')]
    writeFileSync(file, commit.signature!)
    writeFileSync(allowed, `me ${ssh.publicKey}`)
    const said = execFileSync('ssh-keygen', ['-Y', 'verify', '-f', allowed, '-I', 'me', '-n', 'git', '-s', file], { input: commit.payload!, encoding: 'utf8' })
    expect(said).toContain('Good "git" signature')
    expect((await storage.sdk.repo({ id: 'acme/web' }).getCommit({ sha })).commit.signature).toBeUndefined()
  })

  it('signs merge commits of hosts that are merged here', async () => {
    const minter = new TokenMinter({ org, privateKey: storage.privateKey })
    const token = async (repository: string, access: 'read' | 'write') => ({ username: 't', token: (await minter.mint({ repository, scopes: [access === 'read' ? 'git:read' : 'git:write'] })).token })
    const signing = { format: 'ssh', mode: 'add', key: () => ssh.key, verifyAtTarget: false, provenance: false, publicKeys: [] } as const
    const host = new HttpsGitHost({ url: storage.server.url, token, signing })
    await gitOk(work, 'checkout', '--quiet', '--detach', base)
    const ours = await commitFile(work, 'ours.txt', 'x\n')
    await gitOk(work, 'checkout', '--quiet', '--detach', base)
    const theirs = await commitFile(work, 'theirs.txt', 'x\n')
    await gitOk(work, 'push', '--quiet', storage.url(await storage.sdk.repo({ id: 'acme/web' }).getRemoteURL({ ttl: 60 })), `${ours}:refs/heads/ours`, `${theirs}:refs/heads/agent/https`)
    const signed = await host.sign('acme/web', { branch: 'agent/https', sha: theirs, baseSha: base, added }, options, async () => undefined)
    const merged = await host.promote({ repository: 'acme/web', branch: 'agent/https', sha: signed.sha, to: 'ours', strategy: 'merge', expectedTargetSha: ours, message: 'Merge' }, options)
    expect(merged.result).toBe('merge_commit')
    expect(await host.checkSignature('acme/web', merged.sha, [ssh.publicKey], options)).toMatchObject({ good: true })
  })
})

describe('what the pieces read', () => {
  it.each([
    [0, 'Good "git" signature for switchyard with ED25519 key SHA256:abc', true],
    [1, 'Good "git" signature with ED25519 key SHA256:abc\nNo principal matched.', false],
    [0, '', false],
    [1, '[GNUPG:] NO_PUBKEY 1', false],
    [0, '[GNUPG:] GOODSIG 1 X\n[GNUPG:] VALIDSIG ABCDEF 2026', true],
    [1, '[GNUPG:] VALIDSIG ABCDEF 2026', false],
    [1, 'Good "git" signature for switchyard with ED25519 key SHA256:abc', false],
  ])('exit %s, %j: good %s', (code, said, good) => {
    expect(signatureCheck(code, said).good).toBe(good)
  })

  // gpg's own exit code says that these are good.
  it.skipIf(!hasGpg).each([
    ['has expired', ['1d'], []],
    ['was revoked', ['never'], ['revoked']],
  ])('is not content with an OpenPGP key that %s', async (_what, [until = ''], [revoked]) => {
    const home = mkdtempSync(join(keyFolder, 'gpg-'))
    const gpg = (input: string, ...args: string[]) => execFileSync('gpg', ['--homedir', home, '--batch', '--no-tty', '--quiet', '--passphrase', '', '--pinentry-mode', 'loopback', '--faked-system-time', '20200101T000000', ...args], { encoding: 'utf8', input, stdio: ['pipe', 'pipe', 'ignore'] })
    try {
      gpg('', '--quick-generate-key', 'Late <late@example.invalid>', 'ed25519', 'sign', until)
      const signature = gpg('a text', '--armor', '--detach-sign')
      if (revoked !== undefined) {
        const [certificate = ''] = readdirSync(join(home, 'openpgp-revocs.d'))
        gpg(readFileSync(join(home, 'openpgp-revocs.d', certificate), 'utf8').replace(':-----BEGIN', '-----BEGIN'), '--import')
      }
      expect(await checkText('x', [gpg('', '--armor', '--export')], Buffer.from('a text'), signature)).toEqual({ good: false, reason: 'is signed with a key that has expired or was revoked' })
    } finally {
      execFileSync('gpgconf', ['--homedir', home, '--kill', 'all'], { stdio: 'ignore' })
    }
  })

  it('takes keys alone from a file of public keys', () => {
    expect(allowedSigners(['ssh-ed25519 AAAA me@host\n# a comment\n* cert-authority ssh-rsa BBBB', 'ssh-ed25519 CCCC"\n'])).toBe('switchyard namespaces="git,switchyard-provenance" ssh-ed25519 AAAA\nswitchyard namespaces="git,switchyard-provenance" ssh-ed25519 CCCC\n')
  })

  it('reads a commit as bytes, headers of several lines too', () => {
    const raw = Buffer.concat([Buffer.from('tree t\nparent p\nparent q\nauthor A <a> 1 +0000\ncommitter B <b> 2 +0100\nencoding latin1\ngpgsig -----\n author Evil <e> 9 +0000\n -----\n\n'), Buffer.from([0xe9, 10])])
    expect(parseCommit(raw)).toMatchObject({ tree: 't', parents: ['p', 'q'], author: 'A <a> 1 +0000', committer: 'B <b> 2 +0100', encoding: 'latin1', message: Buffer.from([0xe9, 10]) })
  })
})

describe('a provenance statement', () => {
  const statement = (sha: string) => ({ _type: 'x', subject: [{ name: 'git:acme/web', digest: { gitCommit: sha } }], predicate: { made: 'here' } })
  const signing = (more: Partial<SigningOptions> = {}) => hostWith({ provenance: true, ...more })

  // The other namespace is what the statements below are left in.
  it.each(whole ? [false, true] : [true])('is left as a note and read again (in the namespace of job branches: %s)', async (ephemeral) => {
    const { branch, sha } = await jobBranch('added')
    const signed = await signing().sign('acme/web', { branch, sha, baseSha: base, added }, options, async () => undefined)
    if (!ephemeral) await gitOk(work, 'push', '--quiet', storage.url(await storage.sdk.repo({ id: 'acme/web' }).getRemoteURL({ ttl: 60 })), `${sha}:refs/heads/noted-${numbers}`)
    // Two consumers at once: neither note is lost.
    await Promise.all([signed.sha, base].map((about) => signing().attest('acme/web', { sha: about, ephemeral, statement: statement(about) }, options)))
    const found = await signing().provenance('acme/web', signed.sha, [ssh.publicKey], options)
    expect(found).toMatchObject({ found: true, good: true, statement: { predicate: { made: 'here' } } })
    expect(await signing().provenance('acme/web', base, [ssh.publicKey], options)).toMatchObject({ found: true, good: true })
    expect(await signing().provenance('acme/web', signed.sha, [stranger.publicKey], options)).toMatchObject({ found: true, good: false })
    expect(await signing().provenance('acme/web', '1'.repeat(40), [ssh.publicKey], options)).toEqual({ found: false })
  })

  it('is not good when it is forged, about another commit, or no statement', async () => {
    const { sha } = await jobBranch('added')
    const repo = storage.sdk.repo({ id: 'acme/web' })
    const check = () => hostWith().provenance('acme/web', sha, [ssh.publicKey, ...(pgp === null ? [] : [pgp.publicKey])], options)
    await signing().attest('acme/web', { sha, ephemeral: false, statement: statement(base) }, options)
    expect(await check()).toMatchObject({ good: false, reason: expect.stringContaining('another commit') as unknown })
    await signing({ key: () => stranger.key }).attest('acme/web', { sha, ephemeral: false, statement: statement(sha) }, options)
    expect(await check()).toMatchObject({ good: false, reason: expect.stringContaining('not signed with a key that is known') as unknown })
    await signing().attest('acme/web', { sha, ephemeral: false, statement: statement(sha) }, options)
    expect(await check()).toMatchObject({ good: true })
    const { note } = await repo.getNote({ sha, ref: 'switchyard-provenance' })
    const envelope = JSON.parse(note) as { payload: string }
    const other = { ...envelope, payload: Buffer.from(JSON.stringify({ ...statement(sha), predicate: { made: 'elsewhere' } })).toString('base64') }
    for (const forged of [JSON.stringify(other), 'noise', '{}']) {
      await repo.deleteNote({ sha, ref: 'switchyard-provenance' })
      await repo.createNote({ sha, ref: 'switchyard-provenance', note: forged })
      expect(await check(), forged.slice(0, 20)).toMatchObject({ found: true, good: false })
    }
    if (pgp !== null) {
      await signing({ format: 'openpgp', key: () => pgp.key }).attest('acme/web', { sha, ephemeral: false, statement: statement(sha) }, options)
      expect(await check()).toMatchObject({ good: true })
    }
  })
})
