import { describe, expect, it } from 'vitest'
import { injectedTransfer } from '../../src/consumers/transfer/injected.js'
import type { Transfer } from '../../src/consumers/transfer/transfer.js'
import type { GitHost } from '../../src/git/host.js'
import { InfrastructureError, type InfrastructureErrorKind } from '../../src/job/errors.js'
import type { Runner } from '../../src/runner/runner.js'

const identity = { name: 'A', email: 'a@example.invalid' }
const from = { sha: 'a'.repeat(40), ref: 'refs/heads/main', ephemeral: false }
const clone = { from, branch: 'work', checkpoint: null }
const checkpoint = { from, baseSha: from.sha, branch: 'checkpoint/1', message: 'Checkpoint', identity }
const error = (kind: InfrastructureErrorKind, message: string) => new InfrastructureError({ kind, source: 'test', message })

/** A transfer whose calls are written down in order; `faults` fail them, by what they are, as often as listed. */
function recorded(faults: Record<string, Error[]> = {}): { transfer: Transfer; calls: string[]; secrets: string[]; stop: AbortController } {
  const calls: string[] = []
  const secrets: string[] = []
  const stop = new AbortController()
  const note = async (call: string, signal?: AbortSignal) => {
    calls.push(call)
    const fault = faults[call]?.shift()
    if (fault !== undefined) throw fault
    signal?.throwIfAborted()
    return Promise.resolve()
  }
  const access = (token: string) => Promise.resolve({ url: 'https://git.example.com:8443/acme/web.git', username: 't', token, expiresAtMs: 0 })
  const runner: Pick<Runner, 'clone' | 'checkpoint' | 'push'> = {
    clone: async (request, options) => {
      await note(`clone with ${Object.keys(request.access).join()}`, options.signal)
      return { notes: [] }
    },
    checkpoint: async () => {
      await note('checkpoint')
      const made = { sha: 'b'.repeat(40), headSha: from.sha, commitsAhead: 0 }
      return { ...made, plain: made, descends: true, holdsPaths: false, bytes: 0, unsaved: [], unsavedMore: 0, notes: [], kept: [] }
    },
    push: async (request, options) => note(`push with ${Object.keys(request.access).join()}`, options.signal),
  }
  const git: Pick<GitHost, 'readAccess' | 'writeAccess'> = { readAccess: () => access('read'), writeAccess: (_repository, { branch }) => access(`write ${branch}`) }
  const transfer = injectedTransfer({
    runner: runner as Runner,
    git: git as GitHost,
    repository: 'acme/web',
    onSecret: (secret) => secrets.push(secret),
    callTimeoutMs: 1_000,
    confirmHeld: () => Promise.resolve(),
    injectHeaders: async (headers, options) => {
      const shown = Object.entries(headers).map(([host, { Authorization = '' }]) => `${host} ${Buffer.from(Authorization.replace('Basic ', ''), 'base64').toString()}`)
      await note(shown.length === 0 ? 'take away' : `inject ${shown.join()}`, options.signal)
    },
  })
  return { transfer, calls, secrets, stop }
}

const inject = (token: string) => `inject git.example.com t:${token}`

describe('injected credentials', () => {
  it('are there while git fetches or pushes, and at no other time', async () => {
    const { transfer, calls, secrets } = recorded()
    const options = { timeoutMs: 1_000 }
    await transfer.clone(clone, options)
    await transfer.checkpoint(checkpoint, options)
    await transfer.push({ sha: 'c'.repeat(40), branch: 'agent/1', baseSha: from.sha, from }, options)
    expect(calls).toEqual([
      ...[inject('read'), 'clone with url', 'take away'],
      ...['checkpoint', inject('write checkpoint/1'), 'push with url', 'take away'],
      ...[inject('write agent/1'), 'push with url', 'take away'],
    ])
    // What is masked in output: the token, and the header that holds it.
    expect(secrets.slice(0, 2)).toEqual(['read', Buffer.from('t:read').toString('base64')])
  })

  it('are taken away after a failure, after an injection whose answer was lost, and after the job was broken off', async () => {
    const refused = error('auth', 'refused')
    const failed = recorded({ 'clone with url': [refused] })
    await expect(failed.transfer.clone(clone, { timeoutMs: 1_000 })).rejects.toBe(refused)
    expect(failed.calls.at(-1)).toBe('take away')

    const lost = recorded({ [inject('read')]: [error('transient', 'no answer')] })
    await expect(lost.transfer.clone(clone, { timeoutMs: 1_000 })).rejects.toThrow('no answer')
    expect(lost.calls).toEqual([inject('read'), 'take away'])

    const broken = recorded()
    broken.stop.abort(new Error('cancel'))
    await expect(broken.transfer.clone(clone, { timeoutMs: 1_000, signal: broken.stop.signal })).rejects.toThrow('cancel')
    expect(broken.calls).toEqual([inject('read'), 'take away'])
  })

  it('that can’t be taken away at once are tried again, and in the end said', async () => {
    const passing = recorded({ 'take away': [error('transient', 'busy'), error('rate-limited', 'slow down')] })
    await passing.transfer.clone(clone, { timeoutMs: 1_000 })
    expect(passing.calls.filter((call) => call === 'take away')).toHaveLength(3)

    const lasting = recorded({ 'take away': Array.from({ length: 3 }, () => error('transient', 'still there')) })
    await expect(lasting.transfer.clone(clone, { timeoutMs: 1_000 })).rejects.toThrow('still there')
    // The sandbox is gone: that is what counts.
    const gone = recorded({ 'clone with url': [error('sandbox-lost', 'lost while cloning')], 'take away': [error('sandbox-lost', 'nothing there')] })
    await expect(gone.transfer.clone(clone, { timeoutMs: 1_000 })).rejects.toThrow('lost while cloning')
  })
})
