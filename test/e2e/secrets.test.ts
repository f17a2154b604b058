import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { artifactsConfigSchema, createArtifactStore } from '../../src/artifacts/index.js'
import type { GitAccess } from '../../src/git/host.js'
import { secretsFromEnvironment } from '../../src/consumers/index.js'
import { startDeployment, until, type Deployment } from './deployment.js'

const canary = 'canary-5f1e"\n7d2c-line-two'
const parts = ['canary-5f1e', '7d2c-line-two']

let deployment: Deployment
const tokens = new Set<string>()

beforeAll(async () => {
  deployment = await startDeployment()
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  for (const method of ['readAccess', 'writeAccess'] as const) {
    const original: (repository: string, options: never) => Promise<GitAccess> = deployment.host[method].bind(deployment.host)
    deployment.host[method] = async (repository: string, options: unknown) => {
      const access = await original(repository, options as never)
      tokens.add(access.token)
      return access
    }
  }
  await deployment.startConsumer({ secrets: secretsFromEnvironment(['CANARY'], { CANARY: canary }), artifacts: createArtifactStore(artifactsConfigSchema.parse({ folder: join(deployment.dir, 'artifacts') })) })
})
afterAll(() => deployment.close())

/** Everything that Redis holds, as one text. */
async function dumpRedis(): Promise<string> {
  const redis = new Redis(deployment.redis.url, { protocol: 2 })
  try {
    const seen: string[] = []
    for (const key of await redis.keys('*')) {
      const type = await redis.type(key)
      const value: unknown =
        type === 'hash' ? await redis.hgetall(key)
        : type === 'list' ? await redis.lrange(key, 0, -1)
        : type === 'set' ? await redis.smembers(key)
        : type === 'zset' ? await redis.zrange(key, '0', '-1')
        : type === 'stream' ? await redis.xrange(key, '-', '+')
        : await redis.get(key)
      seen.push(key, JSON.stringify(value))
    }
    return seen.join('\n')
  } finally {
    redis.disconnect()
  }
}

async function filesBelow(folder: string): Promise<string> {
  const texts: string[] = []
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) texts.push(await readFile(join(entry.parentPath, entry.name), 'latin1').catch(() => ''))
  }
  return texts.join('\n')
}

/** Names that the job's commands make up and that a result tells: of files, of a branch beside the job's own, of a failed test, of a folder that git can't save. */
const names = `part=$(printf %s "$CANARY" | tail -n 1)
mkdir -p "in-$part" "nested-$part/.git" && echo x >"in-$part/notes-$part.txt" && echo y >"$part.txt"
printf '<testsuite><testcase name="logs in with %s"><failure message="refused: %s"/></testcase></testsuite>' "$part" "$part" >report.xml
git add "in-$part" && git checkout --quiet -b "fix-$part" && git -c user.name=a -c user.email=a@example.invalid commit --quiet -m "Use $part" && git checkout --quiet -`

it('keeps secrets and tokens out of logs, Redis, events, argv, files, .git and results', async () => {
  const job = await deployment.queue.enqueue({
    repository: 'acme/web',
    secrets: ['CANARY'],
    steps: [
      { name: 'leak', run: 'echo "$CANARY"; printf "%s" "$CANARY" >&2; printf canary-; sleep 0.2; printf "%s" "${CANARY#canary-}"; printf "%s" "$CANARY" | base64 -w0; echo; cat .git/config; ls -la "$HOME/.switchyard"' },
      { name: 'names', run: names },
      { name: 'hold', run: 'echo holding; while [ ! -e "$HOME/release" ]; do sleep 0.05; done' },
    ],
    promote: { to: 'promoted' },
    artifacts: ['*.txt', '*.xml'],
  })
  await until('the held step', async () => (await job.status()).step?.includes('hold') ?? false, 40_000)
  await until('its checkpoint', async () => (await job.status()).checkpointSha !== null)
  const { provider: name, sandboxId } = await job.status()
  const provider = deployment.providers.find((each) => each.name === name)!
  const look = async (script: string) => (await provider.exec(sandboxId!, { script }, { timeoutMs: 10_000 })).stdout
  const inSandbox = await look('for f in /proc/[0-9]*/cmdline; do tr "\\0" " " < "$f"; echo; done; cat "$HOME/repository/.git/config"; true')
  // The job's own secrets are in its environment, which is what it asked for; tokens never are while no git runs.
  const environments = await look('cat /proc/[0-9]*/environ 2>/dev/null | tr "\\0" "\\n"; true')
  const files = await filesBelow(join(deployment.dir, 'sandboxes'))
  await provider.exec(sandboxId!, { script: 'touch "$HOME/release"' }, { timeoutMs: 10_000 })
  const result = await job.result({ timeoutMs: 150_000 })
  expect(result.status).toBe('succeeded')
  let output = ''
  for await (const line of job.logs()) output += line.text
  // The test can fail: the step did print, and its names are told of.
  const stars = '*'.repeat(parts[1]!.length)
  expect(result).toMatchObject({
    diff: { paths: expect.arrayContaining([`${stars}.txt`]) as unknown },
    kept: [{ ref: expect.stringContaining(`fix-${stars}`) as unknown }],
    artifactsMissed: [{ path: `${stars}.txt`, reason: 'its name holds a secret' }],
    tests: { failures: 1, failing: [{ name: `logs in with ${stars}` }] },
  })
  expect(output).toContain('*'.repeat(canary.length))

  const places: Record<string, string> = { logs: deployment.logs.join('\n'), redis: await dumpRedis(), result: JSON.stringify(result), output, sandbox: inSandbox }
  expect(tokens.size).toBeGreaterThan(3)
  for (const [place, text] of Object.entries(places)) {
    expect(text.length, place).toBeGreaterThan(0)
    for (const part of [...parts, Buffer.from(canary).toString('base64')]) expect(text.includes(part), `${part} in ${place}`).toBe(false)
    for (const token of tokens) expect(text.includes(token), `a token in ${place}`).toBe(false)
  }
  // The step's own output lies in the sandbox as printed; tokens do not.
  expect(environments).toContain(parts[0])
  for (const token of tokens) expect(environments.includes(token), 'a token in an environment').toBe(false)
  for (const token of tokens) expect(files.includes(token), 'a token in the sandbox’s files').toBe(false)
})

it('a line shows while its step goes on in silence, also when it ends as every token begins', async () => {
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo over there; sleep 600'] })
  const lines: string[] = []
  for await (const { stream, text } of job.logs({ follow: true })) {
    if (stream !== 'system') lines.push(text)
    if (lines.join('').includes('\n')) break
  }
  expect(lines.join('')).toBe('over there\n')
  await job.cancel('seen')
  expect((await job.result({ timeoutMs: 150_000 })).status).toBe('cancelled')
})

it('keeps them out of what a job’s page shows of its changed lines', async () => {
  const job = await deployment.queue.enqueue({ repository: 'acme/web', secrets: ['CANARY'], steps: ['printf "key=%s\\n" "$CANARY" >leaked.txt; printf "%s" "$CANARY" | base64 -w0 >encoded.txt'] })
  const { commit } = await job.result({ timeoutMs: 150_000 })
  const patch = (await deployment.queue.view(job.jobId))?.patch
  expect(patch).toMatchObject({ commit, known: true, files: [{ path: 'encoded.txt' }, { path: 'leaked.txt' }] })
  const shown = JSON.stringify(patch) + (await dumpRedis())
  for (const part of [...parts, Buffer.from(canary).toString('base64')]) expect(shown).not.toContain(part)
})
