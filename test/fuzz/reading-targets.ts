import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, normalize } from 'node:path'
import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { SignJWT, importPKCS8 } from 'jose'
import { JUnitReader } from '../../src/artifacts/junit.js'
import { generateDevelopmentKeys } from '../../src/embedded/index.js'
import { TokenRefusedError, tokenVerifier } from '../../src/embedded/code-storage/verify.js'
import { ForeignCommits } from '../../src/git/foreign-commits.js'
import { parseChangedFiles } from '../../src/git/changed-files.js'
import { parseRefs } from '../../src/git/ls-remote.js'
import { TemporaryRepository } from '../../src/git/temporary-repository.js'
import { InfrastructureError, InvalidInputError, NewerReleaseError } from '../../src/job/errors.js'
import { artifactExpression, artifactPathProblem, artifactPatternProblem, isNamedBy, literalPart, plainArtifactPattern } from '../../src/job/artifact-patterns.js'
import { testSummarySchema } from '../../src/job/artifacts.js'
import { harmlessJson, harmlessText } from '../../src/job/harmless-text.js'
import { parseJobSpec, parseQueuedSpec, type JobSpecInput } from '../../src/job/spec.js'
import { MalformedAnswer, parseAnswer } from '../../src/runner/answer.js'
import { createRunner, type Runner } from '../../src/runner/index.js'
import { unquotePath } from '../../src/runner/report.js'
import { commit, object, pack, tree } from '../git/pack-writer.js'
import { jsonText, mutated, mutatedBytes, oddJson, oddText } from './arbitraries.js'
import { target } from './harness.js'

/** What is read without a server: answers of sandboxes and of git, packs, tokens, specs. */

const sha = 'a1'.repeat(20)
const identity = { name: 'a', email: 'a@example.com' }

const fieldNames = ['code', 'out-size', 'err-size', 'out-length', 'err-length', 'out-skip', 'err-skip', 'sha', 'head', 'ahead', 'plain', 'plain-head', 'plain-ahead', 'descends', 'none', 'name', 'size', 'depth', 'borders', 'lfs', 'count', 'home', 'repository', 'user', 'git', 'certificates', 'restored', 'paths', 'unsaved-more', 'ok', 'missing', 'fail']
const fieldValue = fc.oneof({ weight: 3, arbitrary: fc.nat(300).map(String) }, { weight: 3, arbitrary: fc.constantFrom(sha, '-', '0', '1', 'L2hvbWU=', 'git version 2.40', 'no-step', 'git', 'disk', 'busy') }, { weight: 2, arbitrary: oddText.map((text) => text.replaceAll('\n', ' ')) })
const blobBytes = fc.oneof(fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes)), fc.array(fc.oneof(oddText, fc.constantFrom(`${sha} refs/heads/x`, '"a\\303\\251\\t\\"b"\treason', `${'b'.repeat(64)} 12 path`, 'F 5 out/a', 'F 5 ../a', 'L out/b', 'M', 'QUJD')), { maxLength: 5 }).map((lines) => Buffer.from(lines.join('\n'))))
const blob = fc.tuple(fc.constantFrom('out', 'err', 'pack', 'piece', 'detail', 'more', 'unsaved', 'kept', 'notes', 'objects', 'absent', 'files', '__proto__'), blobBytes, fc.nat(20)).map(([name, bytes, end]) => [`${name}:`, bytes.toString('base64'), ...(end === 0 ? [] : ['.'])].join('\n'))
const answerLines = fc
  .tuple(fc.array(fc.tuple(fc.constantFrom(...fieldNames), fieldValue).map(([name, value]) => `${name} ${value}`), { maxLength: 24 }), fc.array(blob, { maxLength: 3 }), fc.array(oddText, { maxLength: 2 }))
  .map(([fields, blobs, odd]) => [...new Map(fields.map((line) => [line.split(' ')[0], line])).values(), ...blobs, ...odd].join('\n'))

const options = { timeoutMs: 60_000 }
const read = { stdoutOffset: 100, stderrOffset: 0, waitMs: 0, maxBytes: 256 }
const verbs: Readonly<Record<string, (runner: Runner) => Promise<unknown>>> = {
  install: (runner) => runner.install(options),
  read: (runner) => runner.read('k', read, options),
  start: (runner) => runner.start({ key: 'k', run: 'true', cwd: undefined, env: {} }, options, read),
  clone: (runner) => runner.clone({ access: { url: 'https://example.com/r.git' }, ref: null, sha, branch: 'b', checkpoint: null }, options),
  restore: (runner) => runner.restore({}, options),
  checkpoint: (runner) => runner.checkpoint({ parent: sha, baseSha: sha, identity, message: 'm' }, options),
  commit: (runner) => runner.commit({ message: 'm', author: identity, committer: identity, dateSeconds: 1 }, options),
  push: (runner) => runner.push({ sha, branch: 'b', access: { url: 'https://example.com/r.git' } }, options),
  pack: (runner) => runner.pack({ sha, baseSha: sha, parentSha: sha, maxBytes: 1_000, write: () => Promise.resolve() }, options),
  'lfs objects': (runner) => runner.lfsObjects(sha, options),
  'an lfs object': (runner) => runner.readLfsObject({ oid: 'b'.repeat(64), size: 100 }, () => Promise.resolve(), options),
  artifacts: (runner) => runner.listArtifacts({ patterns: ['out/**', '*.xml'], most: 3 }, options),
  'read artifacts': (runner) => runner.readArtifacts([{ path: 'out/a', sizeBytes: 100 }, { path: 'out/b', sizeBytes: 300_000 }], async (_file, pieces) => { for await (const piece of pieces ?? []) piece.toString() }, options),
  stop: (runner) => runner.stop('k', 1, options),
}

export const runnerAnswers = target('runner answers', () => ({
  inputs: fc.record({ verb: fc.constantFrom(...Object.keys(verbs)), answers: fc.array(answerLines, { minLength: 1, maxLength: 3 }), exitCode: fc.nat(300), whole: fc.nat(15) }),
  async check({ verb, answers, exitCode, whole }) {
    let calls = 0
    const runner = createRunner({
      provider: {
        name: 'p',
        capabilities: { uniqueNames: true, extend: true, network: { gitOnly: true, none: true, allowList: true }, resources: { cpu: true, memory: true, disk: true }, maxLifetimeMs: undefined, maxCommandBytes: 1_000_000 },
        exec: (_id, { script }) => {
          const nonce = /@switchyard ([0-9a-f]{16}) absent/.exec(script)?.[1] ?? ''
          const stdout = [`@switchyard ${nonce} begin`, answers[calls++ % answers.length], `@switchyard ${nonce} end`].slice(0, whole === 0 ? 2 : 3).join('\n')
          return Promise.resolve({ exitCode, stdout })
        },
      },
      sandboxId: 's',
      backoffMs: () => 0,
    })
    try {
      const result: unknown = JSON.stringify(await verbs[verb]?.(runner))
      if (typeof result === 'string' && result.length > 4_000_000) throw new Error(`it says ${result.length} bytes`)
    } catch (error) {
      if (!(error instanceof InfrastructureError)) throw error
      if (error.message.length > 2_000) throw new Error(`a message of ${error.message.length} characters`, { cause: error })
      if (error.owner?.startsWith('provider') === true) throw new Error('blames the provider', { cause: error })
    }
    if (calls > 100) throw new Error(`${calls} calls for one answer`)
  },
}))

export const answerTexts = target('answers as text, paths, refs and changed files', () => ({
  inputs: fc.oneof(answerLines, oddText, fc.string({ unit: 'binary', maxLength: 2_000 }), fc.array(fc.tuple(fc.constantFrom(sha, ':100644 100644 a b R100', '1\t2\t', 'ref: refs/heads/x'), fc.constantFrom('\t', '\0', '\n', ' '), oddText)).map((parts) => parts.flat().join(''))),
  check(text) {
    try {
      parseAnswer(`@switchyard n begin\n${text}\n@switchyard n end`, 'n')
    } catch (error) {
      if (!(error instanceof MalformedAnswer)) throw error
    }
    parseRefs(text, new Set(['HEAD', 'refs/heads/*']))
    parseChangedFiles(text)
    unquotePath(`"${text}"`)
    const shown = harmlessText(text)
    if (/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u2028\u2029]/.test(shown)) throw new Error('not made harmless')
    if (JSON.parse(harmlessJson(JSON.stringify(text))) !== text) throw new Error('JSON holds something else')
  },
}))

export const packs = target('packs', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-fuzz-'))
  const blobs = ['one\n', 'two\n'].map((text) => object('blob', Buffer.from(text)))
  const root = tree({ a: blobs[0]!, '.gitattributes': blobs[1]! })
  const sound = [pack([commit(root, sha), root, ...blobs]), pack([...blobs]), pack([])].map(({ content }) => content)
  let open!: () => void
  let opened!: (host: TemporaryRepository) => void
  const host = new Promise<TemporaryRepository>((resolve) => (opened = resolve))
  const closed = new Promise<void>((resolve) => (open = resolve))
  const access = { url: join(folder, 'none.git'), username: 't', token: 'x', expiresAtMs: Date.now() + 3_600_000 }
  const using = TemporaryRepository.use('fuzz', access, options, async (repository) => {
    opened(repository)
    await closed
  })
  const commits = await ForeignCommits.within('fuzz', await host, { maxObjectBytes: 1024 * 1024 }, options)
  let taken = 0
  return {
    inputs: fc.tuple(mutatedBytes(fc.constantFrom(...sound)), fc.boolean()),
    async check([bytes, signed]) {
      // Most of the time git reads past the checksum.
      const body = signed ? bytes.subarray(0, Math.max(0, bytes.length - 20)) : bytes
      const content = signed ? Buffer.concat([body, createHash('sha1').update(body).digest()]) : bytes
      const name = createHash('sha1').update(content).update(String(taken++)).digest('hex')
      const path = commits.packPath(name)
      await writeFile(path, content)
      try {
        await commits.take(name, content.length)
      } catch (error) {
        if (!(error instanceof InfrastructureError) || error.owner?.startsWith('provider') === true) throw error
      } finally {
        for (const end of ['pack', 'idx', 'rev', 'keep']) await rm(path.replace(/pack$/, end), { force: true })
      }
    },
    async close() {
      open()
      await using
      await rm(folder, { recursive: true, force: true, maxRetries: 10 })
    },
  }
}, 6)

export const tokens = target('tokens', async () => {
  const { privateKey, publicKey } = generateDevelopmentKeys()
  const key = await importPKCS8(privateKey, 'ES256')
  const verifier = tokenVerifier({ org: 'acme', publicKeys: [publicKey], now: Date.now })
  const claims = { iss: 'acme', repo: 'acme/web', scopes: ['git:read'], iat: 1, exp: 4_000_000_000 }
  const sound = await new SignJWT(claims).setProtectedHeader({ alg: 'ES256' }).sign(key)
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const header = mutated(fc.constantFrom<unknown>({ alg: 'ES256' }, { alg: 'none' }, { alg: 'HS256', typ: 'JWT' }, { alg: 'ES256', crit: ['b64'], b64: false }, { alg: 'ES256', jwk: { kty: 'EC' } }, { alg: 'EdDSA', kid: '../x' }))
  const refused = async (token: string) => {
    try {
      return await verifier.verify(token)
    } catch (error) {
      if (error instanceof TokenRefusedError) return null
      throw error
    }
  }
  return {
    inputs: fc.oneof(
      fc.record({ kind: fc.constant('bytes' as const), token: mutatedBytes(fc.constant(Buffer.from(sound))).map((bytes) => bytes.toString('latin1')) }),
      fc.record({ kind: fc.constant('forged' as const), token: fc.tuple(header, mutated(fc.constant<unknown>(claims)), oddText).map(([head, body, end]) => `${part(head)}.${part(body)}.${end}`) }),
      fc.record({ kind: fc.constant('signed' as const), claims: mutated(fc.constant<unknown>(claims)) }),
    ),
    async check(input) {
      if (input.kind === 'signed') {
        // Its holder has the key: what it says may be anything, and is believed only if it is a token's.
        const payload = input.claims
        if (typeof payload !== 'object' || payload === null || Array.isArray(payload)) return
        const token = await new SignJWT(payload as Record<string, unknown>).setProtectedHeader({ alg: 'ES256' }).sign(key).catch(() => '')
        const taken = await refused(token)
        if (taken !== null && ((taken.repo !== undefined && typeof taken.repo !== 'string') || !Array.isArray(taken.scopes) || taken.exp * 1000 < Date.now())) throw new Error(`took ${JSON.stringify(taken)}`)
        return
      }
      const taken = await refused(input.token)
      if (taken !== null && JSON.stringify(taken) !== JSON.stringify(claims) && !(taken.repo === claims.repo && taken.iss === claims.iss && taken.exp === claims.exp)) throw new Error(`took ${JSON.stringify(taken)} of ${input.token}`)
    },
  }
})

const sound: JobSpecInput = {
  repository: 'acme/web', ref: 'main', setup: ['npm ci'], steps: [{ name: 'agent', run: 'agent', timeout: '40m', cwd: 'packages/web', env: { A: '1' } }, 'npm test'], env: { CI: '1' }, secrets: ['KEY'],
  push: { message: 'm', author: { name: 'a', email: 'a@example.com' } }, promote: { to: 'next', strategy: 'ff_only', pullRequest: { base: 'main', title: 'Fix it', body: 'Well', draft: true, labels: ['bug'], reviewers: ['ada'] } }, artifacts: ['coverage/**', './report.html'], checkpoint: { everySeconds: 60, paths: ['~/.agent', 'cache'] }, providers: { prefer: ['e2b'], deny: ['modal'] },
  resources: { cpu: 2, memoryMiB: 2048 }, network: ['example.com'], timeout: '1h', waitTimeout: '30m', delay: '1s', attempts: 2, priority: 10, idempotencyKey: 'k', tenant: 't', metadata: { issue: 4711, deep: { list: [1] } }, lfs: { include: ['*.bin'] },
}

export const specs = target('job specs', () => ({
  inputs: fc.oneof(mutated(fc.constant<unknown>(sound)), jsonText(mutated(fc.constant<unknown>(sound))), oddJson),
  check(input) {
    let value = input
    if (typeof input === 'string') {
      try {
        value = JSON.parse(input)
      } catch {
        // A text is no spec either.
      }
    }
    const ours = (read: () => unknown) => {
      try {
        return read()
      } catch (error) {
        if (!(error instanceof InvalidInputError) && !(error instanceof NewerReleaseError)) throw error
        if (error instanceof InvalidInputError && error.problems.length === 0) throw new Error('no problem is named', { cause: error })
        return undefined
      }
    }
    ours(() => parseQueuedSpec(value))
    const spec = ours(() => parseJobSpec(value)) as ReturnType<typeof parseJobSpec> | undefined
    if (spec === undefined) return
    // What is taken is in the queue as it was given, and is read there as the same.
    const again = parseQueuedSpec(JSON.parse(JSON.stringify(spec)))
    if (JSON.stringify(again) !== JSON.stringify(spec)) throw new Error(`the queue holds ${JSON.stringify(again)}`)
    const names = (env: unknown) => Object.keys(env ?? {}).sort().join()
    const given = value as { env?: object }
    if (names(spec.env) !== names(given.env)) throw new Error(`of the variables ${names(given.env)} are left ${names(spec.env)}`)
  },
}))

/** XML that programs trip over, and reports. */
const xml = fc.array(fc.oneof(
  fc.constantFrom('<testsuites>', '<testsuite name="a" tests="2" time="1.5">', '<testcase name="b" classname="c" time="0.1">', '<testcase/>', '<failure message="m">', '<skipped/>', '<![CDATA[x]]>', '</failure>', '</testcase>', '</testsuite>', '</testsuites>', '<!DOCTYPE a [<!ENTITY x "y">]>', '&x;', '&#0;', '&#x1b;', '<?xml version="1.0"?>', '<!--', '-->', '<a xmlns:j="u">', '<j:testcase', '"', '>'),
  oddText,
), { maxLength: 30 }).map((parts) => parts.join(''))

export const reports = target('JUnit reports', () => ({
  inputs: fc.record({ text: xml, cut: fc.integer({ min: 1, max: 64 }), damaged: fc.boolean() }),
  check({ text, cut, damaged }) {
    const reader = new JUnitReader()
    const bytes = Buffer.from(damaged ? text : `<testsuite>${text}</testsuite>`)
    for (let at = 0; at < bytes.length; at += cut) reader.add(bytes.subarray(at, at + cut))
    const found = reader.end()
    if (found === null) return
    testSummarySchema.parse(found)
    if (found.failing.length > 20) throw new Error('names too many')
    for (const test of found.failing) for (const part of Object.values(test)) if (typeof part !== 'string' || part.length > 201 || /[\p{Cc}\u202e]/u.test(part)) throw new Error(`says ${JSON.stringify(part)}`)
  },
}))

export const artifactNames = target('artifacts’ patterns and paths', () => ({
  inputs: fc.record({ pattern: fc.oneof(oddText, fc.array(fc.constantFrom('a', '*', '**', '?', 'a*', '..', '.', '', '.git', 'b.c'), { maxLength: 8 }).map((parts) => parts.join('/'))), path: fc.oneof(oddText, fc.array(fc.constantFrom('a', 'b.c', '..', '.', '', 'ab', '.git'), { maxLength: 8 }).map((parts) => parts.join('/'))) }),
  check({ pattern, path }) {
    if (artifactPathProblem(path) === undefined && (normalize(join('/x', path)) !== `/x/${path}` || /[\p{Cc}]/u.test(path))) throw new Error(`takes ${JSON.stringify(path)}`)
    if (artifactPatternProblem(pattern) !== undefined) return
    const plain = plainArtifactPattern(pattern)
    if (artifactPatternProblem(plain) !== undefined || plainArtifactPattern(plain) !== plain) throw new Error(`made ${JSON.stringify(plain)} of it`)
    if (isNamedBy(plain, path) && literalPart(plain) !== '' && path !== literalPart(plain) && !path.startsWith(`${literalPart(plain)}/`)) throw new Error('names what lies elsewhere')
    new RegExp(artifactExpression(plain))
  },
}))
