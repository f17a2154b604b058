import { execFileSync, spawnSync } from 'node:child_process'
import { readdir, readFile, writeFile, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Command } from 'commander'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GitStorage } from '@pierre/storage'
import { startRedis } from '../../src/embedded/index.js'
import { LocalProvider } from '../../src/providers/local/index.js'
import { sandboxTags } from '../../src/providers/provider.js'
import { createRedis, Keys, Roster } from '../../src/store/index.js'
import { startModalServer } from '../servers/modal/server.js'
import { whole } from '../whole.js'
import { makePlace, type Place, type Run } from './run-switchyard.js'

let place: Place
let dev: Run
/** For what is asked of a process each time: it takes the time of what it waits for. */
const unhurried = { interval: 500 }

/** In one process with the others: what a process of its own shows, some of each kind show in `ownProcess`, and those that run until they are stopped. */
const switchyard = (...args: string[]) => place.command(args)

async function ownProcess(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const run = place.run(args)
  const code = await run.ended
  return { code, stdout: run.stdout(), stderr: run.stderr() }
}

beforeAll(async () => {
  place = await makePlace()
  await writeFile(join(place.folder, 'hello.txt'), 'hello\n')
  // What jobs make is fetched into a checkout, so that nothing has to be kept.
  execFileSync('sh', ['-c', 'git init -q && git add . && git -c user.name=a -c user.email=a@b commit -qm Begin'], { cwd: place.folder })
  dev = place.run(['dev', '-r', 'acme/web=.', '--https', '--json'])
  await dev.saw(/"board"/)
})
afterAll(async () => {
  await place.remove()
})

describe('with switchyard dev running in the folder', () => {
  it('a job is enqueued, awaited and shown', async () => {
    const { code, stdout, stderr } = await ownProcess('enqueue', '-r', 'acme/web', '-s', 'echo more >> hello.txt', '-s', 'cat hello.txt; echo oops >&2', '-p', 'more', '--wait', '--json')
    expect(code, stderr).toBe(0)
    const result = JSON.parse(stdout) as { jobId: string; status: string; promoted: { to: string } }
    expect(result).toMatchObject({ status: 'succeeded', promoted: { to: 'more' }, diff: { files: 1, additions: 1 } })

    const one = await switchyard('status', result.jobId)
    expect(one.stdout).toMatch(/state +succeeded/)
    const all = await switchyard('status')
    expect(all.stdout).toContain(result.jobId)
    expect(JSON.parse((await switchyard('status', '--json')).stdout)).toHaveLength(1)
    expect(JSON.parse((await switchyard('status', '--json', '--state', 'failed', '--repository', 'acme/web')).stdout)).toEqual([])

    const logs = await ownProcess('logs', result.jobId)
    expect(logs.stdout).toBe('hello\nmore\n')
    expect(logs.stderr).toContain('oops\n')
    const lines = (await switchyard('logs', result.jobId, '--json', '--follow')).stdout.trimEnd().split('\n').map((line) => JSON.parse(line) as { seq: number; stream: string; text: string })
    expect(lines.filter((line) => line.stream === 'stdout').map((line) => line.text).join('')).toBe('hello\nmore\n')
    const after = await switchyard('logs', result.jobId, '--json', '--after', String(lines.at(-1)?.seq))
    expect(after.stdout).toBe('')

    expect((await switchyard('cancel', result.jobId)).stdout).toContain('had ended before')
  })

  it('a failed job exits with 1, from a file too', async () => {
    await writeFile(join(place.folder, 'job.json'), JSON.stringify({ repository: 'acme/web', steps: ["printf 'seen\\033[31m as it comes\\n'; exit 7"], push: false }))
    const { code, stdout, stderr } = await switchyard('enqueue', '--file', 'job.json', '--wait')
    expect(code).toBe(1)
    expect(stderr).toMatch(/^step 1 \| seen as it comes$/m)
    expect(stdout).toMatch(/result +failed: .*7.*\(step-failed\)/)
  })

  it('what a hostile job prints, makes and is called does nothing to a terminal, in any command, unless it is asked for byte by byte', async () => {
    const evil = '\u001b]0;mine\u0007\u001b[2J\u009b1A\u202e\u2028\r>>> promoted'
    const bytes = "printf '\\033]52;c;eA==\\007\\033[1A\\r>>> promoted\\n\\302\\2332J\\342\\200\\256'"
    const steps = [{ name: `evil ${evil}\n>>> done`, run: `${bytes}; ${bytes} >&2; touch "$(${bytes})" .git/x; git checkout -q -b "e$(printf '\\302\\2332J')"; git commit -q --allow-empty -m "$(${bytes})"; mkfifo "$(${bytes})p"; exit 3` }]
    await writeFile(join(place.folder, 'hostile.json'), JSON.stringify({ repository: 'acme/web', tenant: `t${evil}`, steps, env: { GIT_AUTHOR_NAME: 'a', GIT_AUTHOR_EMAIL: 'a@b', GIT_COMMITTER_NAME: 'a', GIT_COMMITTER_EMAIL: 'a@b' } }))
    const onTerminal = spawnSync('script', ['--version']).status === 0
    const commands = async (text: string) => {
      const run = place.shell(`$SWITCHYARD ${text}`, { terminal: onTerminal })
      await run.ended
      return run.stdout() + run.stderr()
    }
    const waited = await commands('enqueue --file hostile.json --wait')
    const [{ jobId } = { jobId: '' }] = JSON.parse((await switchyard('status', '--json', '--limit', '1')).stdout) as { jobId: string }[]
    const obeyed = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u2028\u2029]|\r(?!\n)/
    const [many, one, logs] = await Promise.all(['status', `status ${jobId}`, `logs ${jobId}`].map(commands))
    const [raw, json] = [(await switchyard('logs', jobId, '--raw')).stdout, (await switchyard('status', jobId, '--json')).stdout]
    for (const [name, shown] of Object.entries({ waited, many, one, ...(onTerminal ? { logs } : {}) })) {
      expect(obeyed.exec(shown ?? '')?.[0], `${name}: ${JSON.stringify(shown)}`).toBeUndefined()
      expect((shown ?? '').split(/\r?\n/).filter((line) => /^(>>> )?(promoted|done)/.test(line)), name).toEqual([])
    }
    for (const shown of [waited, ...(onTerminal ? [logs] : [])]) expect(shown).toContain('| ␍>>> promoted')
    expect(one).toContain('step        evil')
    expect(JSON.parse(json)).toMatchObject({ jobId, state: 'failed' })
    expect(json).not.toMatch(/[\u007f-\u009f\u202e\u2028]/)
    expect(raw).toContain('\u001b]52;c;eA==\u0007\u001b[1A')
  }, 300_000)

  it('a reader that has seen enough ends a command quietly', async () => {
    const quiet = async (text: string) => {
      const run = place.shell(`{ $SWITCHYARD ${text}; echo "code $?" >&3; } 3>&2 2>&1 | true`)
      await run.ended
      return [text, run.stdout(), run.stderr()]
    }
    // One that prints and ends, one that stays and one that waits; `npm run test:long` has one more that prints, of Redis.
    const commands = ['--help', ...(whole ? ['status --json'] : []), 'board --port 0', `enqueue -r acme/web -s 'echo x' --no-push --wait`]
    expect(await Promise.all(commands.map(quiet))).toEqual(commands.map((text) => [text, '', 'code 0\n']))
  })

  it('a running job is cancelled', async () => {
    const { stdout } = await switchyard('enqueue', '-r', 'acme/web', '-s', 'echo started; sleep 600', '--no-push')
    const jobId = stdout.trim()
    const logs = place.run(['logs', jobId, '--follow'])
    await logs.saw(/started/)
    expect((await switchyard('cancel', jobId, '--reason', 'enough', '--json')).stdout).toContain('"requested"')
    expect(await logs.ended).toBe(0)
    await expect.poll(async () => (JSON.parse((await switchyard('status', jobId, '--json')).stdout) as { state: string }).state, unhurried).toBe('cancelled')
  })

  it('a failed job is run again from its last checkpoint, and all that a filter finds', { timeout: 300_000 }, async () => {
    const { stdout } = await switchyard('enqueue', '-r', 'acme/web', '-s', 'echo one > one.txt', '-s', 'exit 3', '--wait', '--json')
    const { jobId } = JSON.parse(stdout) as { jobId: string }
    expect((await switchyard('retry', jobId, '--from', 'checkpoint')).stdout).toBe(`job ${jobId}: is run again, from its last checkpoint\n`)
    const ended = async () => JSON.parse((await switchyard('status', jobId, '--json')).stdout) as { state: string; result: { branch: string } | null }
    await expect.poll(async () => (await ended()).result?.branch, unhurried).toBe(`agent/${jobId}-2`)
    await expect.poll(async () => JSON.parse((await switchyard('retry', '--repository', 'acme/web', '--since', '1h', '--from', 'checkpoint', '--json')).stdout) as unknown, unhurried).toEqual({ retried: expect.arrayContaining([jobId]) as string[] })
    for (const [args, sentence] of [[[], 'say which'], [['--since', 'noon'], '--since: "noon"']] as const) {
      const refused = await switchyard('retry', ...args)
      expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining(sentence)])
    }
  })

  it('a schedule is made, shown, changed from a file, paused, resumed and removed', { timeout: 300_000 }, async () => {
    const made = await switchyard('schedules', 'upsert', 'often', '--every', '3s', '-r', 'acme/web', '-s', 'true', '--no-push', '--json')
    expect(made.code, made.stderr).toBe(0)
    expect(JSON.parse(made.stdout)).toMatchObject({ id: 'often', everyMs: 3_000, job: { repository: 'acme/web', push: false } })
    const list = async () => JSON.parse((await switchyard('schedules', '--json')).stdout) as { last: { jobId: string; result: { status: string } | null } | null }[]
    await expect.poll(async () => (await list())[0]?.last?.jobId, unhurried).toMatch(/^often-/)
    expect((await switchyard('schedules', 'pause', 'often')).stdout).toBe('schedule often: is paused\n')
    await expect.poll(async () => (await list())[0]?.last?.result?.status, unhurried).toBe('succeeded')
    expect((await switchyard('schedules')).stdout).toMatch(/often .* paused /)
    expect((await switchyard('schedules', 'resume', 'often', '--json')).stdout).toBe('{"id":"often","done":"resume"}\n')
    await writeFile(join(place.folder, 'schedule.json'), JSON.stringify({ cron: '0 3 * * *', timezone: 'Europe/Berlin', job: { repository: 'acme/web', steps: ['true'], push: false } }))
    const changed = await switchyard('schedules', 'upsert', 'often', '--file', 'schedule.json', '--missed', 'once')
    expect(changed.stdout).toMatch(/^SCHEDULE +WHEN +NEXT +LAST +JOB +RESULT\noften +0 3 \* \* \* \(Europe\/Berlin\) +\d{4}-\d\d-\d\dT0[12]:00:00Z +\S+Z +often-\S+ +(succeeded|not ended)$/m)
    expect((await switchyard('schedules', 'remove', 'often')).code).toBe(0)
    expect((await switchyard('schedules', 'remove', 'often')).code).toBe(4)
    const refused = await switchyard('schedules', 'upsert', 'often', '--cron', '61 * * * *', '-r', 'acme/web', '-s', 'true')
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('cron: "61 * * * *" is no cron expression')])
  })

  it('Ctrl-C ends the waiting for a job, not the job', async () => {
    const waiting = place.run(['enqueue', '-r', 'acme/web', '-s', 'echo started; sleep 600', '--no-push', '--wait'])
    await waiting.saw(/step 1 \| started/)
    waiting.child.kill('SIGINT')
    expect(await waiting.ended).toBe(130)
    const jobId = /job (\S+) goes on; "switchyard logs \S+ --follow" shows its output, "switchyard cancel \S+" ends it/.exec(waiting.stderr())?.[1] ?? ''
    expect((await switchyard('cancel', jobId)).stdout).toContain(jobId)
  })

  // Before anything of others lies at the provider: dev's own reaper would count it.
  it('keys that are refused to a consumer are told below the providers', async () => {
    const config = JSON.parse(await readFile(join(place.folder, '.switchyard/dev/switchyard.config.json'), 'utf8')) as { redis: { url: string }; queue?: { name?: string; prefix?: string } }
    const redis = createRedis(config.redis, 'commands')
    try {
      const keys = new Keys(config.queue?.prefix, config.queue?.name)
      const profile = { queue: keys.queueName, release: '1', providers: ['local'], secrets: [] }
      const troubles = [{ of: 'git', message: 'code-storage: the key is \u001b[31mrefused', sinceMs: 0 }, { of: 'local', message: 'local: the key is refused', sinceMs: 0 }]
      const roster = new Roster(redis, keys)
      await roster.announce({ consumer: 'consumer-x', profileId: 'x', profile, troubles, startedAtMs: 1, shares: null }, 600_000)
      const { stdout } = await switchyard('providers')
      expect(stdout).toMatch(/^git: refused to consumer-x since 00:00:00: code-storage: the key is \S*refused$/m)
      expect(stdout).toMatch(/^local: refused to consumer-x since 00:00:00: local: the key is refused$/m)
      expect(stdout).not.toContain('\u001b')
      const [local] = JSON.parse((await switchyard('providers', '--json')).stdout) as { refusedKeys: { of: string; consumer: string }[] }[]
      expect(local?.refusedKeys.map(({ of, consumer }) => [of, consumer])).toEqual([['git', 'consumer-x'], ['local', 'consumer-x']])
      await roster.withdraw('consumer-x')
      expect((await switchyard('providers')).stdout).not.toContain('consumer-x')
    } finally {
      redis.disconnect()
    }
  })

  it('the providers are shown with what they hold', async () => {
    expect((await switchyard('providers')).stdout).toMatch(/^PROVIDER +LIMIT.*\nlocal +/)
    const shown = async () => JSON.parse((await switchyard('providers', '--json')).stdout) as unknown
    await expect.poll(shown, unhurried).toMatchObject([{ provider: 'local', used: 0, breaker: 'closed', foreign: 0 }])
  })

  it('the sandboxes are shown, and those that no job owns are killed', async () => {
    const config = JSON.parse(await readFile(join(place.folder, '.switchyard/dev/switchyard.config.json'), 'utf8')) as { providers: [{ name: string; stateDir: string }] }
    const [{ name, stateDir }] = config.providers
    await writeFile(join(place.folder, 'reap.json'), JSON.stringify({ ...config, consumer: { reapGraceMs: 0 } }))
    const jobId = (await switchyard('enqueue', '-r', 'acme/web', '-s', 'sleep 600', '--no-push')).stdout.trim()
    await expect.poll(async () => (JSON.parse((await switchyard('status', jobId, '--json')).stdout) as { phase: string }).phase, unhurried).toBe('steps')
    const provider = new LocalProvider({ name, stateDir })
    const create = (deployment: string) =>
      provider.create(
        { name: `left-${deployment}`, tags: sandboxTags({ deployment, runId: 'gone', attempt: 1 }), image: undefined, resources: {}, lifetimeMs: 600_000, network: 'open', gitHosts: [] },
        { timeoutMs: 10_000 },
      )
    const [orphan, theirs] = [await create('dev'), await create('other')]

    const shown = await switchyard('reap', '--dry-run', '--json')
    expect(shown.code, shown.stderr).toBe(0)
    const { providers } = JSON.parse(shown.stdout) as { providers: [{ sandboxes: { id: string; verdict: string; jobId: string | null }[] }] }
    const verdicts = Object.fromEntries(providers[0].sandboxes.map(({ id, verdict }) => [id, verdict]))
    expect(verdicts).toMatchObject({ [orphan.id]: 'young', [theirs.id]: 'foreign' })
    expect(providers[0].sandboxes.find((sandbox) => sandbox.jobId === jobId)).toMatchObject({ verdict: 'owned' })
    expect((await switchyard('reap', '--dry-run', '--config', 'reap.json')).stdout).toMatch(new RegExp(`${orphan.id} +gone +[\\d.]+s +orphan +0 +no run is known for it`))

    const reaped = await ownProcess('reap', '--config', 'reap.json')
    expect(reaped.code, reaped.stderr).toBe(0)
    expect(reaped.stdout).toContain('3 sandboxes: 1 owned, 0 young, 0 unclear, 1 foreign; 1 killed, 0 left')
    expect(await provider.get(orphan.id, { timeoutMs: 10_000 })).toBeUndefined()
    expect(await provider.get(theirs.id, { timeoutMs: 10_000 })).toBeDefined()
    await provider.kill(theirs.id, { timeoutMs: 10_000 })
    await switchyard('cancel', jobId)
  })

  it('a job that is not known exits with 4', async () => {
    for (const args of [['status', 'nope'], ['logs', 'nope'], ['cancel', 'nope'], ['retry', 'nope']]) {
      const { code, stderr, stdout } = await switchyard(...args)
      expect([args[0], code, stdout]).toEqual([args[0], 4, ''])
      expect(stderr).toContain('job nope is not known')
    }
  })

  it('wrong input exits with 2 and says everything that is wrong', async () => {
    const wrong = await switchyard('enqueue', '-r', 'acme/../web', '-s', '', '--timeout', '30')
    expect(wrong.code).toBe(2)
    expect(wrong.stderr.split('\n').filter((line) => line.startsWith('switchyard: ')).length).toBeGreaterThanOrEqual(3)
    expect((await switchyard('enqueue', '--nonsense')).code).toBe(2)
    expect((await switchyard('status', '--limit', '0')).stderr).toContain('--limit: "0" must be a whole number from 1 to 1000')
    expect((await switchyard('logs', 'x', '--after', '-1')).code).toBe(2)
    expect((await switchyard('enqueue', '--file', 'none.json')).stderr).toContain('--file: none.json can\'t be read')
  })

  it('the same idempotency key with another job exits with 2', async () => {
    const enqueue = (step: string) => switchyard('enqueue', '-r', 'acme/web', '-s', step, '--no-push', '--idempotency-key', 'k1')
    const first = await enqueue('true')
    expect((await enqueue('true')).stdout).toBe(first.stdout)
    const other = await enqueue('false')
    expect([other.code, other.stdout]).toEqual([2, ''])
  })

  it('a second dev in the folder is refused', async () => {
    const { code, stderr } = await switchyard('dev')
    expect(code).toBe(2)
    expect(stderr).toContain('is there already: another "switchyard dev" runs in this folder')
  })

  it('dev hides its folder from git, and keeps it for this user alone', async () => {
    expect(await readFile(join(place.folder, '.switchyard/.gitignore'), 'utf8')).toMatch(/^\*$/m)
    const config = await stat(join(place.folder, '.switchyard/dev/switchyard.config.json'))
    expect(config.mode & 0o077).toBe(0)
    expect((await stat(join(place.folder, '.switchyard/dev'))).mode & 0o077).toBe(0)
    const files = (await readdir(join(place.folder, '.switchyard'), { withFileTypes: true })).filter((entry) => entry.isFile())
    for (const { name } of files) expect((await stat(join(place.folder, '.switchyard', name))).mode & 0o077, name).toBe(0)
  })

  it('dev --https serves git over https with a certificate of its own, also to the SDK’s own URLs', async () => {
    const running = JSON.parse(dev.stdout()) as { https: { url: string; certificateFile: string } }
    const config = JSON.parse(await readFile(join(place.folder, '.switchyard/dev/switchyard.config.json'), 'utf8')) as { git: { org: string; privateKeyFile: string } }
    const { host } = new URL(running.https.url)
    const sdk = new GitStorage({ name: config.git.org, key: await readFile(config.git.privateKeyFile, 'utf8'), storageBaseUrl: host, apiBaseUrl: running.https.url })
    const url = await sdk.repo({ id: 'acme/web' }).getRemoteURL()
    expect(url).toMatch(/^https:/)
    const asked = (environment: Record<string, string>) => spawnSync('git', ['ls-remote', url], { encoding: 'utf8', env: { PATH: process.env['PATH'] ?? '', HOME: place.folder, ...environment } })
    expect(asked({ GIT_SSL_CAINFO: running.https.certificateFile }).stdout).toContain('refs/heads/main')
    // Nobody else vouches for it.
    expect(asked({}).stderr).toMatch(/certificate/)
  })

  it('the board of dev and one more show the queue', async () => {
    const { board } = JSON.parse(dev.stdout()) as { board: string }
    const login = await fetch(board, { redirect: 'manual' })
    const cookie = login.headers.getSetCookie().map((each) => each.split(';')[0]).join('; ')
    expect(await (await fetch(new URL('/api/queues', board), { headers: { cookie } })).text()).toContain('agents')
    expect((await fetch(new URL('/api/queues', board))).status).toBe(401)
    const more = place.run(['board', '--port', '0', '--json'])
    await more.saw(/"url"/)
    const { url } = JSON.parse(more.stdout()) as { url: string }
    expect((await fetch(new URL('healthz', url))).status).toBe(200)
    expect((await fetch(new URL('api/queues', url))).status).toBe(401)
    more.child.kill('SIGTERM')
    expect(await more.ended).toBe(0)
    expect((await switchyard('board', '--host', '0.0.0.0', '--port', '0')).code).toBe(2)
    const open = place.run(['board', '--port', '0', '--no-auth', '--json'])
    await open.saw(/"url"/)
    expect((await fetch(new URL('api/queues', (JSON.parse(open.stdout()) as { url: string }).url))).status).toBe(200)
    open.child.kill('SIGTERM')
    expect(await open.ended).toBe(0)
  })

  it('a consumer ends when it is stopped while a provider answers nothing at all', async () => {
    const [redis, modal] = await Promise.all([startRedis(), startModalServer()])
    try {
      const config = JSON.parse(await readFile(join(place.folder, '.switchyard/dev/switchyard.config.json'), 'utf8')) as object
      const providers = [{ name: 'modal', type: 'modal', serverUrl: modal.url, limit: { sandboxes: 1 } }]
      await writeFile(join(place.folder, 'modal.json'), JSON.stringify({ ...config, redis: { url: redis.url }, providers }))
      modal.plan.add({ call: 'exec', action: 'hang', times: 0 })
      const consumer = place.run(['consume', '-c', 'modal.json'], { MODAL_TOKEN_ID: modal.tokenId, MODAL_TOKEN_SECRET: modal.tokenSecret, MODAL_CONFIG_PATH: '/dev/null' })
      await consumer.saw(/consumer started/)
      expect((await switchyard('enqueue', '-c', 'modal.json', '-r', 'acme/web', '-s', 'true', '--no-push')).code).toBe(0)
      await expect.poll(() => modal.plan.calls()['exec'] ?? 0).toBeGreaterThan(0)
      consumer.child.kill('SIGTERM')
      expect(await consumer.ended).toBe(0)
      expect(consumer.stderr()).toContain('consumer stopped')
    } finally {
      await Promise.all([redis.close(), modal.close()])
    }
  })

  it('a second consumer joins, logs JSON on stderr only, and hands over when it is stopped', async () => {
    const consumer = place.run(['consume'])
    await consumer.saw(/consumer started/)
    consumer.child.kill('SIGTERM')
    expect(await consumer.ended).toBe(0)
    expect(consumer.stdout()).toBe('')
    for (const line of consumer.stderr().trimEnd().split('\n')) expect(() => JSON.parse(line) as unknown, line).not.toThrow()
    const { redis } = JSON.parse(await readFile(join(place.folder, '.switchyard/dev/switchyard.config.json'), 'utf8')) as { redis: { url: string } }
    expect(consumer.stderr()).not.toContain(new URL(redis.url).password)
  })

  it('Ctrl-C ends dev and leaves nothing behind', async () => {
    await switchyard('enqueue', '-r', 'acme/web', '-s', 'sleep 600', '--no-push')
    dev.child.kill('SIGINT')
    expect(await dev.ended, dev.stderr()).toBe(0)
    expect(await place.left()).toEqual({ files: [], processes: [] })
    expect(await readFile(join(place.folder, '.switchyard')).catch(String)).toContain('ENOENT')
  })
})

describe('without anything running', () => {
  it('help tells of every command, the exit codes and the variables', { timeout: 300_000 }, async () => {
    const { code, stdout } = await ownProcess('--help')
    expect(code).toBe(0)
    const names = ['demo', 'init', 'dev', 'enqueue', 'consume', 'status', 'logs', 'cancel', 'retry', 'schedules', 'providers', 'tenants', 'queue', 'jobs', 'consumers', 'events', 'keys', 'config', 'audit', 'costs', 'budgets', 'serve', 'mcp', 'reap', 'board', 'doctor', 'verify']
    for (const word of [...names, 'SWITCHYARD_REDIS_URL', 'Exit codes']) expect(stdout).toContain(word)
    expect((await switchyard('enqueue', '--help')).stdout).toMatch(/Examples?:/)
    // The same of the others, without a process for each.
    const commands = resolve('src/cli/commands')
    const top = new Command()
    for (const file of await readdir(commands)) {
      const made = (await import(pathToFileURL(join(commands, file)).href)) as Record<string, unknown>
      for (const [name, add] of Object.entries(made)) if (/^add\w+Command$/.test(name)) (add as (program: Command) => void)(top)
    }
    for (const name of names) {
      let help = ''
      top.commands.find((command) => command.name() === name)?.configureOutput({ writeOut: (text) => void (help += text) }).outputHelp()
      expect(help, name).toMatch(/Examples?:/)
    }
    expect((await switchyard('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
    expect((await ownProcess('nonsense')).code).toBe(2)
  })

  it('dev takes everything down when nobody reads what it says', async () => {
    const own = await makePlace()
    try {
      const run = own.shell('{ $SWITCHYARD dev --json; echo "code $?" >&3; } 3>&2 | true')
      await run.ended
      expect(run.stderr()).toMatch(/code 0\n$/)
      expect(await own.left()).toEqual({ files: [], processes: [] })
    } finally {
      await own.remove()
    }
  })

  it('Redis that is away exits with 3 within seconds and says where it was looked for', async () => {
    const away = await place.command(['status'], { SWITCHYARD_REDIS_URL: 'redis://127.0.0.1:1' })
    expect([away.code, away.stderr]).toEqual([3, expect.stringContaining('127.0.0.1:1')])
    const consumer = await place.command(['consume'], { SWITCHYARD_REDIS_URL: 'redis://127.0.0.1:1' })
    expect([consumer.code, consumer.stderr]).toEqual([2, expect.stringContaining('git: is missing')])
  })
})
