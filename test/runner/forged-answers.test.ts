import { describe, expect, it } from 'vitest'
import { InfrastructureError } from '../../src/job/errors.js'
import { createRunner, type ArtifactListing, type OutputSlice, type Runner } from '../../src/runner/index.js'
import { tries } from '../whole.js'

/** Whatever answers in the runner's place is the job's own fault, and never more than that: tried with many made-up answers. */

/** Numbers from 0 to 1, the same for the same seed. */
function randomness(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const sha = 'a1'.repeat(20)
const values = [
  '-1', '-', '0', '1', '2', '137', '255', '256', '4095', '4096', '1e999', 'NaN', 'Infinity', '9007199254740991', '9007199254740993', '99999999999999999999',
  '0x10', '1.5', '', ' ', '01', '1 1', sha, sha.toUpperCase(), `${sha}\u0000`, '../../etc/passwd', '\u001b[2J', 'x'.repeat(70_000), 'L2hvbWU=', 'Li4vLi4=', 'git version 2.40', 'missing',
]
const names = [
  'code', 'out-size', 'err-size', 'out-length', 'err-length', 'out-skip', 'err-skip', 'sha', 'head', 'ahead', 'none', 'name', 'size', 'depth', 'borders', 'home', 'repository', 'user', 'git', 'certificates',
  'ok', 'missing', 'constructor', '__proto__', 'toString', 'new-field', '', 'fail',
]
const blobs = ['out', 'err', 'pack', 'piece', 'detail', 'more', 'files', '__proto__']
const listed = ['F 5 out/a', 'F 99999999999999999999 out/b', 'F 5 ../../etc/passwd', 'F 5 out/../x', 'F 5 elsewhere', 'F -1 a.xml', 'F 7 a.xml', 'L out/link', 'S out/\u001b[2J', 'N', 'M', 'T', 'X y', '-', 'QUJD', 'A'.repeat(900)]
const failures = ['git', 'disk', 'no-step', 'no-tree', 'busy', 'constructor', '__proto__', 'made-up', '']
const details = ['fatal: unable to access: The requested URL returned error: 403', 'error: RPC failed; HTTP 401', '! [remote rejected] a -> b (hook declined)', 'Could not resolve host', 'No space left on device', '\u0000\u0001', '']

function answerText(nonce: string, random: () => number): string {
  const one = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)] as Item
  const blob = (name: string, bytes: Buffer) => [`${name}:`, bytes.toString('base64'), ...(random() < 0.95 ? ['.'] : [])]
  const lines: string[] = []
  if (random() < 0.2) lines.push(`fail ${one(failures)}`, ...blob('detail', Buffer.from(one(details))))
  // Most of what an honest answer has, so that what is wrong is not always found at once.
  else if (random() < 0.8) lines.push('ok -', ...['code', 'out-size', 'err-size', 'out-length', 'err-length', 'out-skip', 'err-skip', 'ahead', 'size', 'depth'].map((name) => `${name} ${random() < 0.7 ? String(Math.floor(random() * 300)) : one(values)}`))
  if (random() < 0.7) lines.push(...['sha', 'head', 'name'].map((name) => `${name} ${random() < 0.8 ? sha : one(values)}`))
  for (let more = Math.floor(random() * 4); more > 0; more--) lines.push(random() < 0.5 ? `${one(names)} ${one(values)}` : one(values))
  if (random() < 0.7) lines.push(...blob(one(blobs), Buffer.alloc(Math.floor(random() * 600), 65)))
  if (random() < 0.3) lines.push(...blob('files', Buffer.from(Array.from({ length: Math.floor(random() * 12) }, () => one(listed)).join('\n'))))
  if (random() < 0.3) lines.splice(Math.floor(random() * lines.length), 1)
  return [`@switchyard ${nonce} begin`, ...lines, `@switchyard ${nonce} end`].join('\n')
}

function forgedRunner(random: () => number): { runner: Runner; calls: () => number } {
  let calls = 0
  const provider: Parameters<typeof createRunner>[0]['provider'] = {
    name: 'p',
    capabilities: { uniqueNames: true, extend: true, network: { gitOnly: true, none: true, allowList: true }, resources: { cpu: true, memory: true, disk: true }, maxLifetimeMs: undefined, maxCommandBytes: 1_000_000 },
    exec: (_id, { script }) => {
      calls += 1
      const nonce = /@switchyard ([0-9a-f]{16}) absent/.exec(script)?.[1] ?? ''
      return Promise.resolve({ exitCode: Math.floor(random() * 300), stdout: answerText(nonce, random) })
    },
  }
  return { runner: createRunner({ provider, sandboxId: 's', backoffMs: () => 0 }), calls: () => calls }
}

const read = { stdoutOffset: 100, stderrOffset: 0, waitMs: 0, maxBytes: 256 }
const options = { timeoutMs: 60_000 }
const identity = { name: 'a', email: 'a@example.com' }
const whole = (value: number, most: number) => Number.isSafeInteger(value) && value >= 0 && value <= most
const isSha = (text: string) => /^[0-9a-f]{40}$/.test(text)

function goodSlice({ stdout, stderr, stdoutSize, stderrSize, exitCode }: OutputSlice): boolean {
  const more = stdoutSize > read.stdoutOffset || stderrSize > read.stderrOffset
  const brought = stdout.length + stderr.length
  const sizes = whole(stdoutSize, Number.MAX_SAFE_INTEGER) && whole(stderrSize, Number.MAX_SAFE_INTEGER) && stdout.length <= read.maxBytes && stderr.length <= read.maxBytes
  // Whoever reads on from here comes to an end.
  return sizes && (exitCode === null || (whole(exitCode, 255) && (!more || brought > 0)))
}

/** How many bytes come of a small file and of a large one. */
async function bytesOf(runner: Runner): Promise<readonly [number, number]> {
  const bytes = [0, 0] as [number, number]
  await runner.readArtifacts([{ path: 'small', sizeBytes: 500 }, { path: 'large', sizeBytes: 300_000 }], async ({ path }, pieces) => {
    for await (const piece of pieces ?? []) bytes[path === 'small' ? 0 : 1] += piece.length
  }, options)
  return bytes
}

const verbs: readonly (readonly [string, (runner: Runner) => Promise<unknown>, (result: never) => boolean])[] = [
  ['read', (runner) => runner.read('step-1-0', read, options), goodSlice],
  ['start', (runner) => runner.start({ key: 'step-1-0', run: 'true', cwd: undefined, env: {} }, options, read), goodSlice],
  [
    'checkpoint',
    (runner) => runner.checkpoint({ parent: sha, baseSha: sha, identity, message: 'm' }, options),
    (made: { sha: string; headSha: string; commitsAhead: number } | null) => made === null || (isSha(made.sha) && isSha(made.headSha) && whole(made.commitsAhead, 1_000_000)),
  ],
  ['commit', (runner) => runner.commit({ message: 'm', author: identity, committer: identity, dateSeconds: 1 }, options), (made: { sha: string }) => isSha(made.sha)],
  ['push', (runner) => runner.push({ sha, branch: 'b', access: { url: 'https://example.com/r.git' } }, options), () => true],
  [
    'pack',
    (runner) => runner.pack({ sha, baseSha: sha, parentSha: sha, maxBytes: 1_000, write: () => Promise.resolve() }, options),
    (made: { name: string; bytes: number }) => isSha(made.name) && whole(made.bytes, 1_000),
  ],
  [
    'artifacts',
    (runner) => runner.listArtifacts({ patterns: ['out/**', '*.xml'], most: 3 }, options),
    ({ files, odd }: ArtifactListing) => files.length + odd.length <= 8 && files.every(({ path, sizeBytes }) => (/^out\/./.test(path) || /^[^/]*\.xml$/.test(path)) && !path.split('/').includes('..') && whole(sizeBytes, 1e15)),
  ],
  ['artifacts-read', (runner) => bytesOf(runner), ([small, large]: readonly [number, number]) => small <= 500 && [0, 300_000].includes(large)],
  ['stop', (runner) => runner.stop('step-1-0', 10, options), () => true],
]

describe('an answer that something in the sandbox made up', () => {
  it.each(verbs)('to %s is taken within its bounds, or is the job’s or the sandbox’s fault', async (_verb, call, good) => {
    const seen = new Set<string>()
    for (let seed = 1; seed <= tries(1_500); seed++) {
      const { runner, calls } = forgedRunner(randomness(seed))
      try {
        const result = (await call(runner)) as never
        expect(good(result), `seed ${seed}: ${JSON.stringify(result)}`).toBe(true)
        seen.add('taken')
      } catch (error) {
        if (!(error instanceof InfrastructureError)) throw new Error(`seed ${seed}: not sorted`, { cause: error })
        seen.add(error.code)
        // What the sandbox's git says of the git host is a claim; never is it the provider's fault, and never anybody's defect.
        expect(['job', 'sandbox', 'git-host', 'git-repository', 'consumer-keys'], `seed ${seed}: ${error.message}`).toContain(error.owner)
        expect(error.message.length).toBeLessThan(700)
        if (error.code === 'SWY_RUNNER_ANSWER') expect({ kind: error.kind, owner: error.owner }).toEqual({ kind: 'invalid', owner: 'job' })
      }
      expect(calls()).toBeLessThanOrEqual(60)
    }
    expect(seen).toContain('SWY_RUNNER_ANSWER')
    expect(seen.size).toBeGreaterThan(3)
  })
})
