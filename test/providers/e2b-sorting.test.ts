import { AuthenticationError, InvalidArgumentError, SandboxError, ServiceBusyError } from 'e2b'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { InfrastructureErrorKind } from '../../src/job/errors.js'
import { classify, type ClassifyContext } from '../../src/providers/e2b/classify.js'
import { all, failure, options, startE2b, type E2bFixture } from './e2b-fixture.js'

const withStatus = (statusCode: number, message: string): SandboxError => Object.assign(new SandboxError(`${statusCode}: ${message}`), { statusCode })
const placement = 'Failed to place sandbox'

/** What the makers' API and envd answer with, as the SDK throws it. */
const answers: [what: ClassifyContext['what'], raw: unknown, kind: InfrastructureErrorKind, says: string][] = [
  ['create', new ServiceBusyError(`Service temporarily unavailable, please retry - ${placement}: not enough capacity for the requested resources right now, please retry shortly`), 'capacity', 'no room'],
  ['create', new ServiceBusyError(`Service temporarily unavailable, please retry - ${placement}: no compatible node for this template's requirements`), 'invalid', 'waiting does not help'],
  ['create', withStatus(504, `${placement}: placement timed out after 3 attempt(s), please retry`), 'transient', 'in time'],
  ['create', withStatus(500, `${placement}: sandbox creation failed on 2 node(s), please retry; if the problem persists, contact us`), 'transient', '500'],
  ['create', withStatus(500, `${placement}: sandbox files for 'i1' not found`), 'invalid', 'no repetition helps'],
  ['create', withStatus(500, placement), 'transient', '500'],
  ['create', withStatus(500, 'error resolving template \'x\''), 'transient', '500'],
  ['create', withStatus(403, "you don't have access to template 'x'"), 'invalid', 'may not use the template'],
  ['create', withStatus(403, 'team is banned'), 'auth', 'dashboard'],
  ['create', withStatus(404, "tag 'v2' does not exist for template 'x'"), 'invalid', 'does not know the template'],
  ['create', withStatus(400, "template 'x' is not available in the requested cluster"), 'invalid', 'refused'],
  ['create', withStatus(400, 'You need to re-build template to allow using secured access.'), 'invalid', 'refused'],
  ['create', withStatus(400, 'Timeout cannot be greater than 24 hours'), 'invalid', 'set maxLifetime to the plan’s'],
  ['create', withStatus(409, 'idempotency_in_progress'), 'transient', '409'],
  ['create', withStatus(409, 'idempotency_outcome_unknown'), 'transient', '409'],
  ['extend', withStatus(400, 'Max instance length exceeded'), 'transient', 'lifetime is over'],
  ['exec', withStatus(400, 'Max instance length exceeded'), 'transient', 'lifetime is over'],
  ['extend', withStatus(409, 'Sandbox i1 is changing its state'), 'transient', '409'],
  // envd's sentence for a folder, and the same words in a command that it quotes.
  ['exec', new InvalidArgumentError("[invalid_argument] cwd '/nope' does not exist"), 'invalid', 'working directory'],
  ['exec', new InvalidArgumentError("[invalid_argument] error starting process '/bin/sh -c cd /x || echo cwd does not exist': fork/exec /bin/sh: argument list too long"), 'transient', 'could not start the command'],
  ['exec', new InvalidArgumentError("[invalid_argument] error starting process '/bin/sh -c cwd '/nope' does not exist': fork/exec /bin/sh: permission denied"), 'transient', 'could not start the command'],
  ['exec', new InvalidArgumentError("[invalid_argument] error starting process 'x\n[invalid_argument] cwd '/nope' does not exist"), 'transient', 'could not start the command'],
  ['exec', new AuthenticationError("[unauthenticated] invalid username: 'nobody-here'"), 'invalid', 'no user "agent"'],
  ['exec', new AuthenticationError("[unauthenticated] invalid default user: 'user'"), 'invalid', 'no user "agent"'],
]

describe('what E2B answers is sorted', () => {
  it.each(answers)('%s: %s → %s', (what, raw, kind, says) => {
    const error = classify(raw, { source: 'e2b', what, apiKeyEnv: 'E2B_API_KEY', user: 'agent', secrets: [] })
    expect(error).toMatchObject({ kind, message: expect.stringContaining(says) as string })
  })

  it('names the template’s user where the configuration names none', () => {
    const error = classify(new AuthenticationError("[unauthenticated] invalid default user: 'user'"), { source: 'e2b', what: 'exec', apiKeyEnv: 'E2B_API_KEY', secrets: [] })
    expect(error).toMatchObject({ kind: 'invalid', message: expect.stringContaining('does not exist in the sandbox any more') as string })
  })
})

describe('through the SDK and the wire', () => {
  let fixture: E2bFixture
  beforeAll(async () => {
    fixture = await startE2b()
  })
  afterAll(() => fixture.close())

  it('a wrong user is said, and no key is blamed', async () => {
    const provider = fixture.another({ user: 'nobody-here' })
    const { id } = await provider.create(fixture.request(), options)
    expect(await failure(provider.exec(id, { script: 'true' }, options))).toMatchObject({ kind: 'invalid', message: expect.stringContaining('the sandbox has no user "nobody-here"; set user to one that the template has') as string })
    expect(await fixture.another({ user: 'root' }).exec(id, { script: 'echo on' }, options)).toEqual({ exitCode: 0, stdout: 'on\n' })
  })

  it('a working directory that is missing, a file, or the words of a command are told apart', async () => {
    const { id } = await fixture.provider.create(fixture.request(), options)
    const { stdout: home } = await fixture.provider.exec(id, { script: 'cd "$HOME"; echo text >file; mkdir here; pwd' }, options)
    const exec = (cwd: string, script = 'pwd') => fixture.provider.exec(id, { script, cwd: `${home.trim()}/${cwd}` }, options)
    expect(await failure(exec('missing'))).toMatchObject({ kind: 'invalid', message: expect.stringContaining('the working directory does not exist') as string })
    expect(await failure(exec('file'))).toMatchObject({ kind: 'invalid', message: expect.stringContaining('can’t be entered') as string })
    expect(await failure(exec('file', "echo \"cwd '/nope' does not exist\""))).toMatchObject({ kind: 'invalid', message: expect.stringContaining('can’t be entered') as string })
    expect((await exec('here')).stdout).toBe(`${home.trim()}/here\n`)
  })

  it('a lost sandbox whose lifetime was over says so, and another does not', async () => {
    const [expired, crashed] = await Promise.all([fixture.provider.create(fixture.request({ lifetimeMs: 1_000 }), options), fixture.provider.create(fixture.request(), options)])
    await expect.poll(() => fixture.server.host.get(expired.id)).toBeUndefined()
    await fixture.server.host.destroy(crashed.id, 'crashed')
    const lost = async (id: string) => (await failure(fixture.provider.exec(id, { script: 'true' }, options))).message
    expect(await lost(expired.id)).toContain('does not exist any more: its lifetime was over; a sandbox lives 3600 s at most (maxLifetime)')
    expect(await lost(crashed.id)).toMatch(/does not exist any more$/)
  })

  it('a sandbox past what the plan gives is not taken for a broken configuration', async () => {
    const { id } = await fixture.provider.create(fixture.request(), options)
    fixture.server.host.age(id, 3_700_000)
    expect(await failure(fixture.provider.extend(id, 60_000, options))).toMatchObject({ kind: 'transient', message: expect.stringContaining('lifetime is over') as string })
  })
})

describe('a create at E2B', () => {
  it('that is made again after its answer was lost gets the same sandbox, though the listing does not show it yet', async () => {
    const fixture = await startE2b()
    try {
      const request = fixture.request()
      fixture.server.faults.setMode({ listDelayMs: 60_000 })
      fixture.server.faults.add({ call: 'create', action: 'lose-answer' })
      expect((await failure(fixture.provider.create(request, { timeoutMs: 3_000 }))).kind).toBe('transient')
      const { id } = await fixture.another().create(request, options)
      fixture.server.faults.clear()
      expect((await all(fixture.provider.list(request.tags, options))).map((found) => found.id)).toEqual([id])
    } finally {
      await fixture.close()
    }
  })

  it('that was refused is asked for anew, whatever is answered again to the same key', async () => {
    const fixture = await startE2b({ plan: { maxConcurrent: 1 } })
    try {
      const keys: unknown[] = []
      fixture.server.onRequest((received) => {
        if (received.method === 'POST' && received.url === '/v2/sandboxes') keys.push(received.headers['idempotency-key'])
      })
      const first = await fixture.provider.create(fixture.request(), options)
      const request = fixture.request()
      for (let tries = 0; tries < 2; tries += 1) expect((await failure(fixture.provider.create(request, options))).kind).toBe('capacity')
      await fixture.provider.kill(first.id, options)
      const { id } = await fixture.provider.create(request, options)
      expect(fixture.server.host.get(id)).toBeDefined()
      expect(keys.slice(1)).toEqual([request.name, `${request.name}-1`, `${request.name}-2`])
    } finally {
      await fixture.close()
    }
  })
})
