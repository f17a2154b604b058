import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hookPolicy, refusal, type PolicyClaims } from '../../src/embedded/code-storage/policy.js'

const hook = new URL('../../src/embedded/code-storage/pre-receive.sh', import.meta.url).pathname
const zero = '0'.repeat(40)
let repository: string
let first: string
let second: string

beforeAll(() => {
  repository = mkdtempSync(join(tmpdir(), 'switchyard-policy-'))
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=T', '-c', 'user.email=t@example.invalid', ...args], { cwd: repository, encoding: 'utf8' }).trim()
  git('init', '--quiet')
  git('commit', '--quiet', '--allow-empty', '--message', 'one')
  first = git('rev-parse', 'HEAD')
  git('commit', '--quiet', '--allow-empty', '--message', 'two')
  second = git('rev-parse', 'HEAD')
})
afterAll(() => rmSync(repository, { recursive: true, maxRetries: 10 }))

type Move = 'create' | 'forward' | 'back' | 'delete'
const only: PolicyClaims = { refs: [['refs/heads/agent/a', ['no-force-push']], ['*', ['no-push']]] }

const cases: [PolicyClaims, string, Move, string | null][] = [
  [{}, 'refs/heads/main', 'back', null],
  [only, 'refs/heads/agent/a', 'create', null],
  [only, 'refs/heads/agent/a', 'forward', null],
  [only, 'refs/heads/agent/a', 'back', 'no-force-push'],
  [only, 'refs/heads/agent/a', 'delete', 'no-force-push'],
  [only, 'refs/heads/agent/ab', 'create', 'no-push'],
  [only, 'refs/tags/v1', 'create', 'no-push'],
  // The first match wins, also when a later one is stricter.
  [{ refs: [['main', []], ['main', ['no-push']]] }, 'refs/heads/main', 'delete', null],
  [{ refs: [['*', []], ['main', ['no-push']]] }, 'refs/heads/main', 'forward', null],
  // Short names are branches; a star is a glob only at the end, behind a slash.
  [{ refs: [['main', ['no-push']]] }, 'refs/tags/main', 'create', null],
  [{ refs: [['agent/*', ['no-push']]] }, 'refs/heads/agent/x/y', 'create', 'no-push'],
  [{ refs: [['agent/*', ['no-push']]] }, 'refs/heads/agent', 'create', null],
  [{ refs: [['agent*', ['no-push']]] }, 'refs/heads/agents', 'create', null],
  [{ refs: [['refs/heads/[a]', ['no-push']]] }, 'refs/heads/a', 'create', null],
  [{ refs: [['refs/tags/*', ['no-push']]] }, 'refs/tags/v1', 'delete', 'no-push'],
  // The older operations are folded into the rule for "*", or stand behind the others as one.
  [{ ops: ['no-push'] }, 'refs/heads/main', 'forward', 'no-push'],
  [{ ops: ['no-force-push'], refs: [['main', []]] }, 'refs/heads/main', 'back', null],
  [{ ops: ['no-force-push'], refs: [['main', []]] }, 'refs/heads/other', 'back', 'no-force-push'],
  [{ ops: ['no-push'], refs: [['main', []], ['*', ['no-force-push']]] }, 'refs/heads/other', 'forward', 'no-push'],
  [{ ops: ['no-push'], refs: [['*', ['no-force-push']]] }, 'refs/heads/other', 'back', 'no-push'],
  [{ ops: ['no-push'], refs: [['*', []], ['main', []]] }, 'refs/heads/main', 'forward', 'no-push'],
  // What could end the hook's line is in no ref, and an operation that nobody knows forbids nothing.
  [{ refs: [['main\t,,\n*', ['no-push']]] }, 'refs/heads/main', 'forward', null],
  [{ refs: [['*', ['no-push,', 'x', 'sign-off']]] }, 'refs/heads/main', 'forward', null],
  [{ ops: ['no-force-push'] }, 'refs/heads/x', 'create', null],
]

describe('token policies', () => {
  it.each(cases)('%j, %s, %s: %s, the same in the API and in the hook', (claims, ref, move, denied) => {
    const [old, next] = { create: [zero, second], forward: [first, second], back: [second, first], delete: [second, zero] }[move]
    const reason = refusal(claims, { ref, fastForward: move === 'create' || move === 'forward' })
    const result = spawnSync('sh', [hook], {
      cwd: repository,
      input: `${old} ${next} ${ref}\n`,
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], CODE_STORAGE_POLICY: hookPolicy(claims) },
    })
    if (denied === null) {
      expect(reason).toBeUndefined()
      expect([result.status, result.stderr]).toEqual([0, ''])
    } else {
      expect(reason).toContain(`denied by policy: ${ref} (${denied}`)
      expect(result.status).toBe(1)
      expect(result.stderr).toContain(`denied by policy: ${ref} (${denied}`)
    }
  })

  it('refuses an unsigned commit where signatures are wanted, and takes a deletion', () => {
    const claims: PolicyClaims = { refs: [['main', ['verify-sig']]] }
    const pushed = (line: string) => {
      const env = { PATH: process.env['PATH'], CODE_STORAGE_POLICY: hookPolicy(claims) }
      return spawnSync('sh', [hook], { cwd: repository, input: line, encoding: 'utf8', env })
    }
    const refused = pushed(`${first} ${second} refs/heads/main\n`)
    expect([refused.status, refused.stderr]).toEqual([1, `denied by policy: refs/heads/main (verify-sig: ${second} is not signed with a registered key)\n`])
    expect(pushed(`${second} ${zero} refs/heads/main\n`).status).toBe(0)
    expect(pushed(`${first} ${second} refs/heads/other\n`).status).toBe(0)
    // A commit that can't be looked at is not taken for one without faults.
    expect(pushed(`${first} ${'1'.repeat(40)} refs/heads/main\n`).status).toBe(1)
  })

  it('refuses the whole push when one of its refs is refused', () => {
    const result = spawnSync('sh', [hook], {
      cwd: repository,
      input: `${zero} ${first} refs/heads/agent/a\n${zero} ${first} refs/heads/b\n`,
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], CODE_STORAGE_POLICY: hookPolicy(only) },
    })
    expect(result.status).toBe(1)
  })
})
