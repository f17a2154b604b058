import { execFile, execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CodeStorageHost } from '../../src/git/index.js'
import type { SigningOptions } from '../../src/git/signature.js'
import { InfrastructureError } from '../../src/job/errors.js'
import { loaderArgs, ownFile } from '../own-programs.js'
import { git, startDeployment, type Deployment } from './deployment.js'

const run = promisify(execFile)
const folder = mkdtempSync(join(tmpdir(), 'switchyard-signed-'))
const keyFile = join(folder, 'key')
execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', keyFile])
const key = readFileSync(keyFile, 'utf8')

let deployment: Deployment
let host: CodeStorageHost
let faults = 0
beforeAll(async () => {
  deployment = await startDeployment()
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
  const signing: SigningOptions = { format: 'ssh', mode: 'add', key: () => key, verifyAtTarget: false, provenance: true, publicKeys: [] }
  host = new CodeStorageHost({ org: 'acme', privateKey: deployment.privateKey, storageUrl: deployment.storage.url, apiUrl: deployment.storage.apiUrl, signing })
  const sign = host.sign.bind(host)
  host.sign = async (...call) => {
    const signed = await sign(...call)
    if (faults-- > 0) throw new InfrastructureError({ kind: 'transient', owner: 'git-host', source: 'test', message: 'the answer was lost' })
    return signed
  }
  await deployment.startConsumer({ git: host })
})
afterAll(async () => {
  await deployment.close()
  rmSync(folder, { recursive: true, force: true, maxRetries: 10 })
})

async function ran(command: string, to: string) {
  const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: [command], promote: { to } })
  const result = await job.result({ timeoutMs: 150_000 })
  const lines: string[] = []
  for await (const line of job.logs()) lines.push(line.text)
  return { result, log: lines.join('\n') }
}

/** What is signed already, for who has it verified. */
let signed: { readonly to: string; readonly commit: string | null } | undefined

const commitAsAgent = 'echo x > agent.txt && git add agent.txt && git -c user.name=Agent -c user.email=agent@example.invalid commit -qm Agent'

describe('a consumer with a signing key', () => {
  it.each([
    ['what a step left uncommitted', 'echo x > new.txt; env; ls -a /tmp', 'uncommitted', 0, 'the commit of the work is signed'],
    ['what an agent committed, by a commit on top', commitAsAgent, 'committed', 0, 'stands on top of the agent'],
    ['once, also when the answer is lost', 'echo y > lost.txt', 'lost', 1, ''],
  ])('signs %s', async (_what, command, to, lost, said) => {
    faults = lost
    const { result, log } = await ran(command, to)
    expect(result).toMatchObject({ status: 'succeeded', promoted: { to, sha: result.commit } })
    signed = { to, commit: result.commit }
    expect(log).toContain(said)
    expect(log).not.toContain(key.split('\n')[1])
    const checkout = await deployment.checkout('acme/web', to, false)
    expect(await git(checkout, 'rev-parse', 'HEAD')).toBe(result.commit)
    expect(await git(checkout, 'log', '-1', '--format=%(trailers:key=Agent-Job,valueonly)')).toBe(result.jobId)
    expect(await git(checkout, 'rev-list', '--count', `${result.baseSha!}..HEAD`)).toBe(to === 'committed' ? '2' : '1')
    expect(await host.checkSignature('acme/web', result.commit!, [readFileSync(`${keyFile}.pub`, 'utf8')], { timeoutMs: 20_000 })).toMatchObject({ good: true })
    const provenance = await host.provenance('acme/web', result.commit!, [readFileSync(`${keyFile}.pub`, 'utf8')], { timeoutMs: 20_000 })
    expect(provenance).toMatchObject({ good: true, statement: { predicate: { runDetails: { metadata: { invocationId: result.jobId } } } } })
  }, 300_000)

  it('has its commits verified by a command', async () => {
    const { to, commit } = signed ?? { to: 'verified', commit: (await ran('echo z > verified.txt', 'verified')).result.commit }
    const privateKeyFile = join(folder, 'storage.pem')
    writeFileSync(privateKeyFile, deployment.privateKey)
    const config = join(folder, 'switchyard.config.json')
    const { url, apiUrl } = deployment.storage
    writeFileSync(config, JSON.stringify({ git: { type: 'code-storage', org: 'acme', storageUrl: url, apiUrl, privateKeyFile, signing: { keyFile: 'key' } } }))
    const verify = async (...args: string[]) => {
      const command = [...loaderArgs, ownFile('src/cli/main.ts'), 'verify', ...args, '--repository', 'acme/web', '--config', config]
      return run(process.execPath, command).then(
        ({ stdout }) => ({ code: 0, out: stdout }),
        (error: unknown) => ({ code: (error as { code: number }).code, out: (error as { stdout: string }).stdout }),
      )
    }
    const good = await verify(to, '--json')
    expect([good.code, JSON.parse(good.out)]).toMatchObject([0, { sha: commit, good: true, provenance: { found: true, good: true } }])
    const bad = await verify('main')
    expect([bad.code, bad.out]).toEqual([1, expect.stringContaining('it is not signed')])
  }, 300_000)
})
