import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { linked, download } from '../../src/cli/artifact-files.js'
import { artifactsConfigSchema, createArtifactStore, type ArtifactStore } from '../../src/artifacts/index.js'
import { createProviders } from '../../src/config/providers.js'
import type { Consumer } from '../../src/consumers/index.js'
import { InfrastructureError } from '../../src/job/errors.js'
import type { JobResult } from '../../src/job/result.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { startProviderServer } from '../chaos/provider-servers.js'
import { startDocker } from '../providers/docker-fixture.js'
import { podmanUnavailable } from '../servers/podman.js'
import { startS3Server, type S3Server } from '../servers/s3/server.js'
import { whole } from '../whole.js'
import { altered, startDeployment, until, type Deployment } from './deployment.js'

/** A machine with much else to do needs more than the usual minute. */
const timeoutMs = 180_000
let deployment: Deployment
let s3: S3Server
let store: ArtifactStore
let running: Consumer[] = []
/** Told of each call into a sandbox, before it is made; what it throws the provider throws. */
let onExec: (script: string, timeoutMs: number) => void = () => undefined

const credentials = () => ({ ARTIFACTS_KEY: s3.key.accessKeyId, ARTIFACTS_SECRET: s3.key.secretAccessKey })
const s3Config = (limits: object = {}) => ({ s3: { bucket: s3.bucket, region: s3.region, endpoint: s3.url, accessKeyIdEnv: 'ARTIFACTS_KEY', secretAccessKeyEnv: 'ARTIFACTS_SECRET' }, ...limits })
const storeFor = (config: object) => createArtifactStore(artifactsConfigSchema.parse(config), { environment: credentials() })

beforeAll(async () => {
  deployment = await startDeployment({ limits: [2, 2] })
  s3 = await startS3Server()
  store = storeFor(s3Config())
  await deployment.seed('acme/web', { 'README.md': 'hello\n', '.gitignore': 'coverage/\n*.log\nstate/\n', 'docs/committed.md': 'committed\n' })
})
afterAll(async () => {
  await deployment.close()
  await s3.close()
})

/** One consumer at a time, so that each test has the one that it says. */
async function consumer(options: Parameters<Deployment['startConsumer']>[0] = {}): Promise<Consumer> {
  onExec = () => undefined
  s3.fault = undefined
  await Promise.all(running.map((each) => each.stop()))
  const providers = deployment.providers.map((provider) => ({
    limit: { sandboxes: 2 },
    provider: altered(provider, {
      exec: async (id, command, call) => {
        onExec(command.script, call.timeoutMs)
        return provider.exec(id, command, call)
      },
    }),
  }))
  const started = await deployment.startConsumer({ artifacts: store, providers, ...options })
  running = [started]
  return started
}

async function resultOf(spec: Partial<JobSpecInput> & Pick<JobSpecInput, 'steps' | 'artifacts'>): Promise<{ result: JobResult; log: string }> {
  const job = await deployment.queue.enqueue({ repository: 'acme/web', ...spec })
  const result = await job.result({ timeoutMs })
  let log = ''
  for await (const line of job.logs()) log += line.text
  return { result, log }
}

const pathsOf = ({ artifacts }: JobResult) => artifacts.map(({ path }) => path)
const missedOf = ({ artifactsMissed }: JobResult) => Object.fromEntries(artifactsMissed.map(({ path, reason, owner }) => [path, `${owner}: ${reason}`]))
const sha256 = (text: string | Buffer) => createHash('sha256').update(text).digest('hex')
const junit = '<testsuite name="unit"><testcase name="adds" time="0.5"/><testcase name="subtracts"><failure message="1 is not 2"/></testcase></testsuite>'
/** Lost before a call of this kind, and whenever it is asked after. */
const losing = (verb: string) => (script: string) => {
  if (script.includes(`' '${verb}'`)) throw new InfrastructureError({ kind: 'sandbox-lost', source: 'local-a', message: 'the sandbox is gone' })
}

it('are stored with size, type and digest, ignored ones too, listed in the result, and can be fetched by links that are stored nowhere', { timeout: 600_000 }, async () => {
  await consumer()
  const { result, log } = await resultOf({
    steps: [`mkdir -p coverage/html && echo '<p>90 %</p>' > coverage/html/index.html && head -c 700000 /dev/zero > coverage/data.bin && echo '${junit}' > coverage/junit.xml && echo done > report.html && ln -s /etc/passwd coverage/passwd`],
    artifacts: ['coverage/**', 'report.html', 'nothing/*.txt'],
    promote: { to: 'with-artifacts' },
  })
  expect(result, log).toMatchObject({
    status: 'succeeded',
    promoted: { to: 'with-artifacts' },
    diff: { paths: ['report.html'] },
    tests: { reports: 1, tests: 2, failures: 1, errors: 0, skipped: 0, timeSeconds: 0.5, failing: [{ of: 'unit', name: 'subtracts', message: '1 is not 2' }] },
    artifactsMissedMore: 0,
  })
  const folder = `${result.jobId}/1.1`
  expect(result.artifacts).toEqual([
    { path: 'coverage/data.bin', sizeBytes: 700_000, mediaType: 'application/octet-stream', sha256: sha256(Buffer.alloc(700_000)), where: `s3://artifacts/${folder}/coverage/data.bin`, from: 'sandbox' },
    { path: 'coverage/html/index.html', sizeBytes: 12, mediaType: 'text/html', sha256: sha256('<p>90 %</p>\n'), where: `s3://artifacts/${folder}/coverage/html/index.html`, from: 'sandbox' },
    { path: 'coverage/junit.xml', sizeBytes: junit.length + 1, mediaType: 'application/xml', sha256: sha256(`${junit}\n`), where: `s3://artifacts/${folder}/coverage/junit.xml`, from: 'sandbox' },
    { path: 'report.html', sizeBytes: 5, mediaType: 'text/html', sha256: sha256('done\n'), where: `s3://artifacts/${folder}/report.html`, from: 'sandbox' },
  ])
  expect(missedOf(result)).toEqual({ 'coverage/passwd': 'job: it is a link, and links are not followed', 'nothing/*.txt': 'job: nothing matches it' })
  expect(log).toContain('artifacts: 4 files')
  expect(log).toContain('tests: 2 run, 1 failed, 0 skipped')
  const target = await mkdtemp(join(tmpdir(), 'switchyard-fetched-'))
  const links = await linked(store, result.artifacts, { expiresInSeconds: 60 })
  await download(links, target)
  expect(await readFile(join(target, 'coverage', 'data.bin'))).toEqual(Buffer.alloc(700_000))
  // What somebody changed at the store is not taken for what was stored.
  await expect(download([{ ...links[3]!, link: links[1]!.link }], target)).rejects.toThrow(/is not what was stored/)
  expect(await readdir(target)).toEqual(['coverage', 'report.html'])
  await rm(target, { recursive: true, maxRetries: 10 })
})

it('are had though a call for each of them is never answered: one takes a part of the time, and not all of it', { timeout: 600_000 }, async () => {
  await consumer()
  const given = new Map<string, number>()
  onExec = (script, callMs) => {
    const verb = /' '(artifacts[a-z-]*)'/.exec(script)?.[1]
    if (verb === undefined || given.has(verb)) return
    given.set(verb, callMs)
    throw new InfrastructureError({ kind: 'timeout', source: 'local-a', message: 'no answer in time' })
  }
  const { result } = await resultOf({ steps: ['echo small > small.log; head -c 300000 /dev/zero > large.log'], artifacts: ['*.log'], push: false })
  expect([pathsOf(result), missedOf(result)]).toEqual([['large.log', 'small.log'], {}])
  // Of two minutes.
  expect([...given].map(([verb, callMs]) => [verb, Math.ceil(callMs / 30_000) * 30])).toEqual([['artifacts', 60], ['artifacts-read', 30], ['artifacts-piece', 30]])
})

it('are those of a job that failed, that was cancelled, and whose time was up, too', { timeout: 600_000 }, async () => {
  await consumer()
  const failed = await resultOf({ steps: ['echo why > why.log; exit 3'], artifacts: ['*.log'], push: false })
  expect(failed.result).toMatchObject({ status: 'failed', error: { code: 'SWY_STEP_FAILED' }, artifacts: [{ path: 'why.log', from: 'sandbox' }] })
  const late = await resultOf({ steps: [{ run: 'echo late > late.log; echo begun; sleep 600', timeout: '3s' }], artifacts: ['*.log'], push: false })
  expect(late.result).toMatchObject({ status: 'failed', error: { kind: 'timeout' }, artifacts: [{ path: 'late.log' }] })
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo half > half.log; echo begun; sleep 600'], artifacts: ['*.log'], push: false })
  for await (const { text } of job.logs({ follow: true })) if (text.includes('begun')) break
  await job.cancel('not needed any more')
  expect(await job.result({ timeoutMs })).toMatchObject({ status: 'cancelled', artifacts: [{ path: 'half.log', sizeBytes: 5 }] })
})

it('go to names of their own for each run and attempt, so that none takes another’s place', { timeout: 600_000 }, async () => {
  await consumer()
  const { result } = await resultOf({ steps: ['date +%N > out.log; exit 1'], artifacts: ['out.log'], attempts: 2, push: false })
  expect(result.artifacts.map(({ where }) => where)).toEqual([`s3://artifacts/${result.jobId}/1.2/out.log`])
  const job = deployment.queue.job(result.jobId)
  await deployment.queue.retry(result.jobId)
  expect((await job.result({ timeoutMs })).artifacts[0]?.where).toBe(`s3://artifacts/${result.jobId}/2.2/out.log`)
  expect([...s3.puts].filter(([key]) => key.startsWith(result.jobId))).toEqual([[`${result.jobId}/1.2/out.log`, 1], [`${result.jobId}/2.2/out.log`, 1]])
})

// CI loses it when some of them are read already, and takes them out of a hosted sandbox and a container.
it.each(whole ? ['artifacts', 'artifacts-read'] : ['artifacts-read'])('of a sandbox that is lost at "%s" are what the last checkpoint held, and what it did not is said', { timeout: 600_000 }, async (verb) => {
  await consumer()
  onExec = losing(verb)
  const { result, log } = await resultOf({
    steps: ['mkdir -p state coverage && echo remembered > state/memory.txt && echo ignored > coverage/ignored.txt && echo work > work.txt && ln -s work.txt link.txt', 'true'],
    artifacts: ['work.txt', 'state/**', 'coverage/**', 'docs/*.md', 'link.txt'],
    checkpoint: { paths: ['state'] },
  })
  expect(result, log).toMatchObject({ status: 'succeeded', error: null })
  expect(result.artifacts.map(({ path, from }) => `${from} ${path}`)).toEqual(['checkpoint docs/committed.md', 'checkpoint state/memory.txt', 'checkpoint work.txt'])
  expect(s3.objects.get(`${result.jobId}/1.1/state/memory.txt`)?.bytes.toString()).toBe('remembered\n')
  const missed = missedOf(result)
  expect(missed['link.txt']).toContain('it is a link')
  expect(missed['coverage/**']).toMatch(/^sandbox: the sandbox is gone .*(its last checkpoint holds nothing that this names|so only what its last checkpoint held is stored); files that git ignores are in it only where checkpoint.paths names them$/)
})

it('that can’t be stored are listed, with whose fault it is, and cost the job nothing', { timeout: 600_000 }, async () => {
  const spec = { steps: ['for n in 1 2 3 4 5 6; do echo $n > $n.log; done; echo work > work.txt'], artifacts: ['*.log'] }
  const expectMissed = async (owner: string, said: RegExp, more: Partial<JobSpecInput> = { push: false }) => {
    const { result } = await resultOf({ ...spec, ...more })
    expect(result).toMatchObject({ status: 'succeeded', artifacts: [] })
    for (const missed of result.artifactsMissed) expect(missed).toMatchObject({ owner, reason: expect.stringMatching(said) as string })
    expect(result.artifactsMissed.length).toBeGreaterThan(0)
    return result
  }
  await consumer()
  s3.fault = () => ({ status: 403, code: 'AccessDenied' })
  expect(await expectMissed('consumer-keys', /AccessDenied, 403/, {})).toMatchObject({ diff: { paths: ['work.txt'] } })
  // What another answer of a store means test/artifacts tells apart.
  if (whole) {
    s3.fault = () => ({ status: 503, code: 'SlowDown' })
    await expectMissed('deployment', /SlowDown, 503/)
    await consumer({ artifacts: storeFor({ folder: '/dev/null/nowhere' }) })
    await expectMissed('consumer-configuration', /ENOTDIR/)
  }
  await consumer({ artifacts: undefined })
  await expectMissed('consumer-configuration', /no artifact store is configured/)
  // A store that never answers holds up the job's end for so long only.
  await consumer({ settings: { artifactsTimeoutMs: 2_000 } })
  s3.fault = () => 'hang'
  await expectMissed('deployment', /the time to store artifacts was up|does not answer/)
})

it('are no more, and no larger, than the consumer’s limits', { timeout: 600_000 }, async () => {
  await consumer({ artifacts: storeFor(s3Config({ maxFileMiB: 1, maxJobMiB: 2, maxFiles: 5 })) })
  const { result } = await resultOf({
    steps: ['mkdir many sizes && (cd many && seq 1 3000 | xargs touch) && cd sizes && head -c 1100000 /dev/zero > a-too-large && for f in b c d; do head -c 1000000 /dev/zero > $f; done; echo e > e'],
    artifacts: ['sizes'],
    push: false,
  })
  expect(pathsOf(result)).toEqual(['sizes/b', 'sizes/c'].concat(pathsOf(result).includes('sizes/e') ? ['sizes/e'] : []))
  expect(missedOf(result)).toMatchObject({ 'sizes/a-too-large': expect.stringMatching(/^job: it is 1100000 bytes/) as string, 'sizes/d': expect.stringMatching(/^job: no more than 2097152 bytes/) as string })
  const many = await resultOf({ steps: ['mkdir many && (cd many && seq 1 3000 | xargs touch)'], artifacts: ['many/**'], push: false })
  expect(many.result.artifacts.length).toBeLessThanOrEqual(5)
  expect(missedOf(many.result)['many/**']).toMatch(/^job: more than 5 files are named/)
})

it('of a job that ends before it had a repository are said to be missed', { timeout: 600_000 }, async () => {
  await consumer()
  const { result } = await resultOf({ repository: 'acme/nowhere', steps: ['true'], artifacts: ['a', 'b'] })
  expect(result).toMatchObject({ status: 'failed', artifacts: [], artifactsMissed: [{ path: 'a', reason: 'the job ended before it had a repository' }, { path: 'b' }] })
})

it('are stored by the next consumer when one is killed in the middle, each once in the result', { timeout: 600_000 }, async () => {
  await Promise.all(running.map((each) => each.stop()))
  running = []
  let asked = 0
  s3.fault = ({ method }) => (method === 'PUT' && ++asked === 2 ? 'hang' : undefined)
  const child = await deployment.startConsumerProcess({ artifacts: s3Config(), environment: credentials() })
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['for n in 1 2 3 4 5; do head -c 300000 /dev/zero > $n.log; done'], artifacts: ['*.log'], push: false })
  await until('the second file on its way', () => asked >= 2, timeoutMs)
  child.kill('SIGKILL')
  await once(child, 'exit')
  await consumer()
  const result = await job.result({ timeoutMs })
  expect(pathsOf(result)).toEqual(['1.log', '2.log', '3.log', '4.log', '5.log'])
  expect(s3.puts.get(`${job.jobId}/1.1/1.log`)).toBe(2)
  expect(s3.puts.get(`${job.jobId}/1.1/5.log`)).toBe(1)
  expect([...s3.objects.keys()].filter((key) => key.startsWith(job.jobId))).toHaveLength(5)
})

/** Each provider, as its own SDK or engine reaches it, and how to let go of it. */
const reached: Readonly<Record<string, () => Promise<{ readonly providers: Awaited<ReturnType<typeof createProviders>>; readonly close: () => Promise<void> }>>> = {
  ...Object.fromEntries((['e2b', 'modal', 'daytona'] as const).map((name) => [name, async () => {
    // The SDK reads it when it is loaded: a developer's own ~/.modal.toml has no say here.
    process.env['MODAL_CONFIG_PATH'] = '/dev/null'
    const server = await startProviderServer(name, 2, undefined)
    return { providers: await createProviders([server.entry], { environment: server.environment }), close: () => server.close() }
  }])),
  docker: async () => {
    const fixture = await startDocker()
    return { providers: [{ provider: fixture.another({ name: 'docker' }), limit: { sandboxes: 2 } }] as unknown as Awaited<ReturnType<typeof createProviders>>, close: () => fixture.close() }
  },
}
const noDocker = await podmanUnavailable()

describe.each(whole ? Object.keys(reached) : [noDocker === undefined ? 'docker' : 'modal'])('out of a sandbox of %s', (name) => {
  it.skipIf(name === 'docker' && noDocker !== undefined)(`they come whole, and nothing but files of the repository${name === 'docker' && noDocker !== undefined ? ` (skipped: ${noDocker})` : ''}`, { timeout: 600_000 }, async () => {
    const { providers, close } = await reached[name]!()
    try {
      await consumer({ providers })
      const { result, log } = await resultOf({
        steps: [
          'mkdir -p out && head -c 3000000 /dev/zero > out/large.bin && for n in 1 2 3; do echo $n > "out/it is $n.txt"; done && : > out/empty && mkfifo out/pipe',
          // What a job may try to get at what is not its own.
          'ln -s /etc out/etc; ln -s /etc/passwd out/passwd; ln -s ../../.. out/up; echo outside > ../outside.txt; mknod out/device c 1 3 2>/dev/null || :; printf x > "out/$(printf "a\\033[2Jb")"',
        ],
        artifacts: ['out/**'],
      })
      expect(result, log).toMatchObject({ status: 'succeeded', attempts: [{ provider: name }] })
      expect(pathsOf(result).filter((path) => !path.includes('2J'))).toEqual(['out/empty', 'out/it is 1.txt', 'out/it is 2.txt', 'out/it is 3.txt', 'out/large.bin'])
      expect(result.artifacts.find(({ path }) => path === 'out/large.bin')?.sha256).toBe(sha256(Buffer.alloc(3_000_000)))
      const missed = missedOf(result)
      expect(missed['out/pipe']).toContain('no regular file')
      for (const link of ['out/etc', 'out/passwd', 'out/up']) expect(missed[link]).toBe('job: it is a link, and links are not followed')
      expect([...s3.objects].filter(([key, { bytes }]) => key.startsWith(result.jobId) && /root:|outside/.test(bytes.toString('latin1')))).toEqual([])
      await Promise.all(running.map((each) => each.stop()))
      running = []
      await Promise.all(providers.map(({ provider }) => provider.close()))
    } finally {
      await close()
    }
  })
})
