import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createProviders } from '../../src/config/providers.js'
import { providerEntrySchema } from '../../src/config/schema.js'
import type { ProviderSlot } from '../../src/consumers/index.js'
import type { JobResult } from '../../src/job/result.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { startDocker, type DockerFixture } from '../providers/docker-fixture.js'
import { bubblewrapPlaces, bubblewrapWorks, mountsWork, user } from '../servers/bubblewrap-places.js'
import { startE2bServer, type E2bServer } from '../servers/e2b/server.js'
import { podmanUnavailable } from '../servers/podman.js'
import { whole } from '../whole.js'
import { startDeployment, type Deployment } from './deployment.js'

/**
 * Jobs that break what every call into their own sandbox needs, all at once, beside good ones at the same provider: each ends by its own
 * fault or not at all, and nobody else notices. CI tries three at E2B, `npm run test:long` all, and in containers too.
 */
interface Attack {
  readonly name: string
  readonly steps: JobSpecInput['steps']
  /** The codes with which it may end; null for success. */
  readonly ends: readonly (string | null)[]
}

const quickly = { patienceMs: 60_000, leaseMs: 5_000, stallCheckMs: 2_000, callTimeoutMs: 20_000 }
const good: JobSpecInput = { repository: 'acme/web', steps: ['cat README.md > one.txt', 'sleep 1; cat one.txt > two.txt'] }

async function besideGoodOnes(deployment: Deployment, attacks: readonly Attack[], goodOnes: number): Promise<{ bad: Map<string, JobResult>; good: JobResult[] }> {
  const bad = await deployment.queue.enqueueMany(attacks.map(({ steps }) => ({ repository: 'acme/web', steps, timeout: '4m' })))
  const others = await deployment.queue.enqueueMany(Array.from({ length: goodOnes }, () => good))
  const results = await Promise.all([...bad, ...others].map((job) => job.result({ timeoutMs: 280_000 })))
  return { bad: new Map(attacks.map(({ name }, index) => [name, results[index]!])), good: results.slice(attacks.length) }
}

function judge(attacks: readonly Attack[], { bad, good }: { bad: ReadonlyMap<string, JobResult>; good: readonly JobResult[] }): void {
  expect(good.map(({ status, attempts }) => `${status} after ${attempts.length}`)).toEqual(good.map(() => 'succeeded after 1'))
  for (const { name, ends } of attacks) {
    const result = bad.get(name)
    expect(ends, `${name}: ${JSON.stringify(result?.error)} after ${JSON.stringify(result?.attempts.map(({ error }) => error))}`).toContain(result?.error?.code ?? null)
    expect(result?.error?.message ?? '').not.toContain('defect')
    if (result?.error !== null) expect([name, result?.error?.owner]).toEqual([name, 'job'])
  }
}

const breakers = async ({ queue }: Deployment) => (await queue.providers()).map(({ provider, breaker }) => `${provider} ${breaker}`)

describe.skipIf(!(await bubblewrapWorks()) || !(await mountsWork()))('at E2B', () => {
  let deployment: Deployment
  let server: E2bServer
  beforeAll(async () => {
    ;[deployment, server] = await Promise.all([startDeployment(), startE2bServer({ plan: { maxConcurrent: 20, createsPerSecond: 100 }, places: bubblewrapPlaces(user, { diskMiB: 24 }) })])
    await deployment.seed('acme/web', { 'README.md': 'hello\n' })
    const entry = providerEntrySchema.parse({ name: 'e2b', type: 'e2b', apiUrl: server.url, sandboxUrl: server.url, limit: { sandboxes: 12 } })
    await deployment.startConsumer({ providers: await createProviders([entry], { environment: { E2B_API_KEY: server.apiKey } }), settings: quickly })
  }, 300_000)
  afterAll(async () => {
    await deployment.close()
    await server.close()
  })

  it('those that edit /etc/passwd, fill the disk, or shadow sh and git', { timeout: 300_000 }, async () => {
    const shadow = 'mkdir -p ~/bin ~/.local/bin; for f in sh git cat base64 mkdir; do for d in ~/bin ~/.local/bin; do printf "#!/bin/sh\\necho garbage; exit 3\\n" > $d/$f; chmod 755 $d/$f; done; done'
    const profile = 'for f in .profile .bash_profile .bashrc .zshenv; do echo "echo garbage; PATH=$HOME/bin:$PATH; exit 3" > ~/$f; done; git config --global alias.add "!exit 3"; git config --global core.hooksPath ~/bin'
    const attacks: readonly Attack[] = [
      { name: 'no users', steps: [': > /etc/passwd; sleep 1', 'true'], ends: ['SWY_SANDBOX_BROKEN'] },
      // Breaks what the one before does, with a file that can be read.
      ...(whole ? [{ name: 'another name', steps: ['echo "root:x:0:0:root:/root:/bin/sh" > /etc/passwd', 'true'], ends: ['SWY_SANDBOX_BROKEN'] }] : []),
      { name: 'a full disk', steps: ['cat /dev/zero > ~/fill || true', 'true'], ends: ['SWY_JOB_INVALID'] },
      { name: 'shadowed programs', steps: [`${shadow}; ${profile}; echo one > one.txt`, 'echo two > two.txt'], ends: [null] },
    ]
    judge(attacks, await besideGoodOnes(deployment, attacks, whole ? 4 : 2))
    expect(await breakers(deployment)).toEqual(['e2b closed'])
  })
})

const noPodman = await podmanUnavailable()
describe.skipIf(!whole || noPodman !== undefined)(`in containers, as root${noPodman === undefined ? '' : `: ${noPodman}`}`, () => {
  let deployment: Deployment
  let docker: DockerFixture
  beforeAll(async () => {
    ;[deployment, docker] = await Promise.all([startDeployment(), startDocker()])
    await deployment.seed('acme/web', { 'README.md': 'hello\n' })
    const providers: ProviderSlot[] = [{ provider: docker.another({ name: 'docker', user: 'root' }), limit: { sandboxes: 10 } }]
    await deployment.startConsumer({ providers, settings: quickly })
  }, 300_000)
  afterAll(async () => {
    await deployment.close()
    await docker.close()
  })

  it('those that edit /etc/passwd, or replace or remove sh and git', { timeout: 300_000 }, async () => {
    const attacks: readonly Attack[] = [
      { name: 'no users', steps: [': > /etc/passwd', 'true'], ends: ['SWY_SANDBOX_BROKEN'] },
      { name: 'no sh', steps: ['rm -f /bin/sh /bin/ash; /bin/busybox sleep 2', 'true'], ends: ['SWY_SANDBOX_BROKEN'] },
      { name: 'another sh', steps: ['rm -f /bin/sh; printf "#!/bin/busybox ash\\necho garbage\\n" > /bin/sh; chmod 755 /bin/sh; /bin/busybox sleep 2', 'true'], ends: ['SWY_SANDBOX_BROKEN'] },
      { name: 'another git', steps: ['rm -f /usr/bin/git; printf "#!/bin/sh\\necho garbage\\n" > /usr/bin/git; chmod 755 /usr/bin/git', 'echo one > one.txt'], ends: ['SWY_JOB_INVALID'] },
    ]
    judge(attacks, await besideGoodOnes(deployment, attacks, 3))
    expect(await breakers(deployment)).toEqual(['docker closed'])
  })
})
