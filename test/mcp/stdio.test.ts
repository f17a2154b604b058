import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import type { Progress } from '@modelcontextprotocol/sdk/types.js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { secretsFromEnvironment } from '../../src/consumers/index.js'
import { ApiKeys, createApi, startApiServer, type ApiServer } from '../../src/http/index.js'
import { makePlace, type Place, program } from '../cli/run-switchyard.js'
import { startDeployment, until, type Deployment } from '../e2e/deployment.js'

const secret = 'canary-of-a-secret-1234567890'

let deployment: Deployment
let place: Place
let server: ApiServer
let keys: ApiKeys
const open: Client[] = []

beforeAll(async () => {
  ;[deployment, place] = await Promise.all([startDeployment(), makePlace()])
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  await deployment.startConsumer({ secrets: secretsFromEnvironment(['API_KEY'], { API_KEY: secret }) })
  // What a configuration prints must not get between the messages.
  await writeFile(join(place.folder, 'switchyard.config.mjs'), `console.log('from the configuration')\nexport default { redis: { url: ${JSON.stringify(deployment.redis.url)} } }\n`)
  server = await startApiServer({ api: createApi({ queue: deployment.queue }), host: '127.0.0.1', port: 0, graceMs: 1_000 })
  keys = new ApiKeys(deployment.queue)
})
afterAll(async () => {
  await Promise.all(open.map((client) => client.close()))
  await server.close()
  await place.remove()
  await deployment.close()
})

interface Started {
  readonly client: Client
  readonly pid: number
  readonly stderr: () => string
  /** What came on stdout and is no message. */
  readonly strange: Error[]
  /** Progress that the client came upon behind the answer. */
  readonly late: Error[]
  readonly call: (name: string, args?: object, onprogress?: (progress: Progress) => void) => Promise<{ readonly isError: boolean; readonly text: string; readonly value: Record<string, unknown> }>
}

/** The SDK's own client of a real `switchyard mcp`. */
async function start(args: readonly string[] = [], environment: Readonly<Record<string, string>> = {}): Promise<Started> {
  const [command, ...before] = program
  const transport = new StdioClientTransport({ command, args: [...before, 'mcp', ...args], cwd: place.folder, stderr: 'pipe', env: { PATH: process.env['PATH'] ?? '', HOME: place.folder, TMPDIR: place.temporary, ...environment } })
  let stderr = ''
  transport.stderr?.on('data', (data: Buffer) => (stderr += data.toString()))
  const client = new Client({ name: 'test', version: '1' })
  const [strange, late]: [Error[], Error[]] = [[], []]
  // The SDK's client hears of a progress after the answer where it reads both at once, and knows no more whose it was.
  client.onerror = (error) => (error.message.startsWith('Received a progress notification for an unknown token') ? late : strange).push(error)
  await client.connect(transport)
  open.push(client)
  return {
    client,
    pid: transport.pid ?? 0,
    stderr: () => stderr,
    strange,
    late,
    async call(name, given = {}, onprogress) {
      const answer = await client.callTool({ name, arguments: given as Record<string, unknown> }, undefined, onprogress === undefined ? undefined : { onprogress })
      const [content] = answer.content as { type: string; text: string }[]
      return { isError: answer.isError === true, text: content?.text ?? '', value: (answer.structuredContent ?? {}) as Record<string, unknown> }
    },
  }
}

/** One that several tests ask, and that the last of them ends. */
let asked: Promise<Started> | undefined
const anyone = () => (asked ??= start())

const spec = (fields: object = {}) => ({ repository: 'acme/web', steps: ['true'], push: false as const, ...fields })
const alive = (pid: number) => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

describe('an agent at `switchyard mcp`', () => {
  it('enqueues a job, waits for it, reads its log bit by bit, and meets no secret and nothing that a terminal obeys', { timeout: 300_000 }, async () => {
    const { client, call, strange, late } = await anyone()
    // Listing them compiles their schemas, by which the client checks every answer below.
    const { tools } = await client.listTools()
    expect(tools.map(({ name, annotations }) => [name, annotations?.readOnlyHint])).toEqual([
      ['list_jobs', true], ['get_job', true], ['wait_for_job', true], ['read_log', true], ['list_artifacts', true], ['list_providers', true], ['enqueue_job', false], ['retry_job', false], ['cancel_job', false],
    ])
    expect(JSON.stringify(tools.find(({ name }) => name === 'enqueue_job')?.inputSchema)).toContain('Names of environment variables of the consumer')
    const made = await call('enqueue_job', {
      job: spec({
        secrets: ['API_KEY'],
        steps: [{ name: 'agent', run: `printf '\\033]0;title\\007\\033[31mred\\033[0m \\342\\200\\256 %s\\n' "$API_KEY"; i=0; while [ $i -lt 200 ]; do echo "line $i é"; i=$((i+1)); done` }],
        metadata: { note: 'a\u001b[2Jb' },
      }),
    })
    expect(made.isError, made.text).toBe(false)
    const { jobId } = made.value as { jobId: string }
    const told: Progress[] = []
    const waited = await call('wait_for_job', { jobId, timeoutSeconds: 50 }, (progress) => told.push(progress))
    expect(waited.value).toMatchObject({ ended: true, job: { jobId, state: 'succeeded', result: { steps: [{ name: 'agent', exitCode: 0 }] } } })
    expect(JSON.parse(waited.text)).toEqual(waited.value)
    expect(told.length).toBeGreaterThan(0)
    expect(told.map(({ progress }) => progress)).toEqual(told.map(({ progress }) => progress).sort((a, b) => a - b))
    expect(told[0]).toMatchObject({ total: 50, message: expect.stringMatching(/^(waiting|running)/) as string })

    // Of one that has ended the answer says it all.
    const before = [told.length, late.length]
    expect((await call('wait_for_job', { jobId }, (progress) => told.push(progress))).value).toMatchObject({ ended: true })
    expect([told.length, late.length]).toEqual(before)

    // The log in many parts is the log.
    let [cursor, log, parts]: [string | null | undefined, string, number] = [undefined, '', 0]
    do {
      const part = await call('read_log', { jobId, maxBytes: 1_024, ...(cursor == null ? {} : { cursor }) })
      const { entries, ...rest } = part.value as { entries: { step: string; text: string }[]; cursor: string | null; more: boolean; state: string | null }
      expect(Buffer.byteLength(entries.map(({ text }) => text).join(''))).toBeLessThan(1_500)
      log += entries.filter(({ step }) => step === 'agent').map(({ text }) => text).join('')
      cursor = rest.cursor
      parts++
      expect(rest.more).toBe(cursor !== null)
    } while (cursor !== null)
    expect(parts).toBeGreaterThan(1)
    expect(log).toContain([...Array(200).keys()].map((number) => `line ${number} é\n`).join(''))
    expect(log).toMatch(/^red \ufffd \[hidden:API_KEY\]\n|^red \ufffd \[[^\n]*\]\n|^red \ufffd \*+\n/)

    const everything = [made, waited, await call('get_job', { jobId }), await call('list_jobs'), await call('list_providers'), await call('list_artifacts', { jobId })]
    for (const { isError, text } of everything) {
      expect(isError, text).toBe(false)
      expect(text).not.toContain(secret)
      expect(JSON.stringify(JSON.parse(text))).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202e]|\\u00[01]/)
    }
    expect(everything[3]?.value).toMatchObject({ jobs: [{ jobId, state: 'succeeded' }], cursor: null })
    expect(log).not.toContain(secret)

    expect((await call('retry_job', { jobId })).value).toEqual({ outcome: 'retried' })
    expect((await call('wait_for_job', { jobId })).value).toMatchObject({ ended: true })
    const long = ((await call('enqueue_job', { job: spec({ steps: ['sleep 100'] }) })).value as { jobId: string }).jobId
    expect((await call('wait_for_job', { jobId: long, timeoutSeconds: 0.2 })).value).toMatchObject({ ended: false })
    expect((await call('cancel_job', { jobId: long, reason: 'enough' })).isError).toBe(false)
    expect((await call('wait_for_job', { jobId: long })).value).toMatchObject({ ended: true, job: { state: 'cancelled', result: { error: { message: 'enough', code: 'SWY_CANCELLED' } } } })
    expect(strange).toEqual([])
  })

  it('is told what is wrong by a code and a sentence, and can go on', async () => {
    const { client, call, strange } = await anyone()
    const cases: readonly [string, object, RegExp][] = [
      ['enqueue_job', {}, /^SWY_INPUT_INVALID: job: is missing/],
      ['enqueue_job', { job: spec({ steps: [] }), more: 1 }, /^SWY_INPUT_INVALID: more: is not a known field/],
      ['enqueue_job', { job: spec({ steps: [], colour: 'red' }) }, /^SWY_INPUT_INVALID: steps: .*\nSWY_INPUT_INVALID: colour: /s],
      ['get_job', { jobId: 'nobody' }, /^SWY_JOB_UNKNOWN: job nobody is not known/],
      ['get_job', { jobId: '../../v1/providers' }, /^SWY_JOB_UNKNOWN: /],
      ['get_job', { jobId: '..' }, /^SWY_JOB_UNKNOWN: /],
      ['cancel_job', { jobId: '.' }, /^SWY_JOB_UNKNOWN: /],
      ['read_log', { jobId: '\ud800' }, /^SWY_JOB_UNKNOWN: /],
      ['get_job', { jobId: '' }, /^SWY_INPUT_INVALID: jobId: is empty/],
      ['wait_for_job', { jobId: 'nobody' }, /^SWY_JOB_UNKNOWN/],
      ['wait_for_job', { jobId: 'a', timeoutSeconds: 1e9 }, /^SWY_INPUT_INVALID: timeoutSeconds: must be at most 600/],
      ['read_log', { jobId: 'nobody' }, /^SWY_JOB_UNKNOWN/],
      ['read_log', { jobId: 'a', cursor: '1;drop' }, /^SWY_INPUT_INVALID: cursor: /],
      ['read_log', { jobId: 'a', maxBytes: 1e9 }, /^SWY_INPUT_INVALID: maxBytes: must be at most/],
      ['list_jobs', { since: 'yesterday' }, /^SWY_INPUT_INVALID: since: /],
      ['list_jobs', { cursor: 'x' }, /^SWY_INPUT_INVALID: cursor: /],
      ['cancel_job', { jobId: 'nobody' }, /^SWY_JOB_UNKNOWN/],
      ['retry_job', { jobId: 'nobody', from: 'middle' }, /^SWY_INPUT_INVALID: from: /],
      ['list_artifacts', { jobId: 'nobody', linkSeconds: 0 }, /^SWY_INPUT_INVALID: linkSeconds: /],
      ['list_providers', { all: true }, /^SWY_INPUT_INVALID: all: is not a known field/],
    ]
    for (const [name, given, expected] of cases) {
      const answer = await call(name, given)
      expect({ name, isError: answer.isError, text: answer.text }).toEqual({ name, isError: true, text: expect.stringMatching(expected) as string })
    }
    await expect(client.callTool({ name: 'drop_\u001b[2Jeverything' })).rejects.toThrow(/tool "drop_everything" is none of list_jobs/)
    expect((await call('list_jobs')).isError).toBe(false)
    expect(strange).toEqual([])
  })

  it('only looks with --read-only, and sees a tenant’s jobs alone with --tenant', async () => {
    const foreign = await deployment.queue.enqueue(spec({ tenant: 'globex', delay: '1h' }))
    const [looks, acme] = await Promise.all([start(['--read-only']), start(['--tenant', 'acme', '--repository', 'acme/*', '--no-secrets'])])
    expect((await looks.client.listTools()).tools.map(({ name }) => name)).not.toContain('enqueue_job')
    await expect(looks.call('cancel_job', { jobId: foreign.jobId })).rejects.toThrow(/changes something, and this server only looks/)
    expect((await looks.call('get_job', { jobId: foreign.jobId })).value).toMatchObject({ state: 'waiting', tenant: 'globex' })

    for (const [name, given] of [['get_job', {}], ['cancel_job', {}], ['retry_job', {}], ['read_log', {}], ['wait_for_job', {}], ['list_artifacts', {}]] as const) {
      expect(await acme.call(name, { jobId: foreign.jobId, ...given })).toMatchObject({ isError: true, text: expect.stringMatching(/^SWY_JOB_UNKNOWN/) as string })
    }
    expect(await acme.call('enqueue_job', { job: spec({ tenant: 'globex' }) })).toMatchObject({ isError: true, text: expect.stringMatching(/^SWY_HTTP_FORBIDDEN: tenant: /) as string })
    for (const fields of [{ repository: 'other/x' }, { secrets: ['API_KEY'] }]) expect(await acme.call('enqueue_job', { job: spec(fields) })).toMatchObject({ isError: true, text: expect.stringMatching(/^SWY_HTTP_FORBIDDEN: (repository|secrets): /) as string })
    const { jobId } = (await acme.call('enqueue_job', { job: spec({ delay: '1h' }) })).value as { jobId: string }
    expect((await acme.call('list_jobs')).value).toMatchObject({ jobs: [{ jobId, tenant: 'acme' }] })
    expect(await acme.call('list_providers')).toMatchObject({ isError: true, text: expect.stringMatching(/^SWY_HTTP_FORBIDDEN/) as string })
    expect(await foreign.status()).toMatchObject({ state: 'waiting' })
    // Who did what stands in the audit log.
    expect(acme.stderr()).toContain('createJob by mcp')
  })

  it('speaks to a server by a key, and may what the key may', async () => {
    const [read, acme] = await Promise.all([keys.create({ name: 'looks', scope: 'read' }), keys.create({ name: 'acme', scope: 'write', tenants: ['acme'] })])
    const [looks, writes] = await Promise.all([start(['--url', server.url], { SWITCHYARD_API_KEY: read.key }), start(['--url', `${server.url}/`.replace(/\/+$/, ''), '--key-env', 'ACME_KEY'], { ACME_KEY: acme.key })])
    expect(await looks.call('enqueue_job', { job: spec() })).toMatchObject({ isError: true, text: expect.stringMatching(/^SWY_HTTP_FORBIDDEN: API key \w+ may only read/) as string })
    const { jobId } = (await writes.call('enqueue_job', { job: spec({ steps: ['echo over HTTP'] }) })).value as { jobId: string }
    expect((await writes.call('wait_for_job', { jobId })).value).toMatchObject({ ended: true, job: { state: 'succeeded', tenant: 'acme' } })
    expect((await looks.call('read_log', { jobId })).value).toMatchObject({ entries: expect.arrayContaining([expect.objectContaining({ text: 'over HTTP\n' })]) as unknown, cursor: null, state: 'succeeded' })
    await keys.revoke(acme.info.id)
    expect(await writes.call('get_job', { jobId })).toMatchObject({ isError: true, text: expect.stringMatching(/^SWY_HTTP_UNAUTHENTICATED: API key \w+ was revoked/) as string })
    for (const { stderr, strange } of [looks, writes]) expect([stderr().includes('sy_'), strange]).toEqual([false, []])
  })
})

describe('`switchyard mcp` itself', () => {
  it('refuses what can’t be, by a sentence on stderr and nothing on stdout', async () => {
    const cases: readonly [readonly string[], Readonly<Record<string, string>>, number, RegExp][] = [
      [['--url', 'https://user:hunter2@example.com'], {}, 2, /--url: must be the URL/],
      [['--url', 'https://example.com'], {}, 2, /SWITCHYARD_API_KEY: is not set/],
      [['--url', 'https://example.com', '--no-secrets'], {}, 2, /--no-secrets: the key decides/],
      [['--repository', '../x'], {}, 2, /--repository\[0\]: must be a repository|must be a repository/],
      [[], { SWITCHYARD_REDIS_URL: 'redis://127.0.0.1:1' }, 3, /Redis/],
    ]
    for (const [args, environment, code, said] of cases) {
      const ended = await place.command(['mcp', ...args], environment)
      expect({ args, ...ended }).toEqual({ args, code, stdout: '', stderr: expect.stringMatching(said) as string })
      expect(ended.stderr).not.toContain('hunter2')
    }
    // As a process of its own, too.
    const run = place.run(['mcp', '--url', 'https://user:hunter2@example.com'])
    expect([await run.ended, run.stdout(), run.stderr()]).toEqual([2, '', expect.stringMatching(/^switchyard: --url: must be the URL/)])
  })

  it('ends when its stdin does, at a signal, and in the middle of a wait, and lives through what is no message', async () => {
    const [ends, stopped] = await Promise.all([anyone(), start()])
    const { jobId } = (await ends.call('enqueue_job', { job: spec({ delay: '1h' }) })).value as { jobId: string }
    void ends.call('wait_for_job', { jobId, timeoutSeconds: 600 }).catch(() => undefined)
    await ends.call('get_job', { jobId })
    await ends.client.close()
    await until('it has ended', () => !alive(ends.pid), 10_000)
    process.kill(stopped.pid, 'SIGTERM')
    await until('it has ended', () => !alive(stopped.pid), 10_000)

    const request = (id: number) => JSON.stringify({ jsonrpc: '2.0', id, method: 'ping' })
    const nested = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"enqueue_job","arguments":{"job":{"metadata":${'['.repeat(200_000)}${']'.repeat(200_000)}}}}}`
    await writeFile(join(place.folder, 'input'), [request(1), 'no JSON', '{"jsonrpc":"1.0"}', '\u0000\u001b[2J', '[]', nested, request(3), ''].join('\n'))
    const run = place.shell('(cat input; until [ -e seen ]; do sleep 0.1; done) | $SWITCHYARD mcp')
    await run.saw(/"id":2/)
    await run.saw(/"id":3/)
    await writeFile(join(place.folder, 'seen'), '')
    expect(await run.ended).toBe(0)
    const answers = run.stdout().trim().split('\n').map((line) => JSON.parse(line) as { id: number; result?: { isError?: boolean; content?: { text: string }[] } })
    expect(answers.map(({ id }) => id).sort()).toEqual([1, 2, 3])
    expect(answers.find(({ id }) => id === 2)?.result).toMatchObject({ isError: true, content: [{ text: expect.stringMatching(/^SWY_INPUT_INVALID: /) as string }] })
    expect(run.stderr()).not.toContain('\u001b[2J')
  })
})
