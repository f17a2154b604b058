import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { DaytonaProvider, daytonaProviderConfigSchema } from '../../src/providers/daytona/index.js'
import type { InfrastructureError } from '../../src/job/errors.js'
import { LocalProvider } from '../../src/providers/local/index.js'
import { modalProviderConfigSchema } from '../../src/providers/modal/index.js'
import type { Provider, SandboxRequest } from '../../src/providers/provider.js'
import { failureOf, sandboxRequest, startDaytona } from './daytona-fixture.js'
import { startE2b } from './e2b-fixture.js'
import { localProvider } from './local-sandboxes.js'
import { startModal } from './modal-fixture.js'

/**
 * What is wrong with a configuration or a job, at each provider: a sentence that says where and what to do, final in kind, found
 * with as few calls as can be, and never tried again.
 */

const call = { timeoutMs: 20_000 }

interface Case {
  readonly what: string
  readonly provider: Provider
  /** What `check` finds, which consumers and the doctor ask; undefined when only a create can. */
  readonly check: Expected | undefined
  readonly request?: Partial<SandboxRequest>
  readonly create: Expected
}
interface Expected {
  readonly kind: InfrastructureError['kind']
  readonly says: RegExp
  /** Calls to the provider. */
  readonly calls: number
}

/** Tries every case. @param count how many calls of any kind the server has had. */
async function holds(cases: readonly Case[], count: () => number): Promise<void> {
  for (const { what, provider, check, request, create } of cases) {
    for (const [name, expected, act] of [
      ['check', check, () => provider.check(call)],
      ['create', create, () => provider.create(sandboxRequest(request), call)],
    ] as const) {
      if (expected === undefined) continue
      const before = count()
      const error = await failureOf(act())
      expect([what, name, error.kind], error.message).toEqual([what, name, expected.kind])
      expect(error.message, `${what}: ${name}`).toMatch(expected.says)
      expect(error.source).toBe(provider.name)
      expect([what, name, count() - before]).toEqual([what, name, expected.calls])
    }
    await provider.close()
  }
}
const total = (calls: Readonly<Record<string, number>>) => Object.values(calls).reduce((sum, each) => sum + each, 0)
const before = (says: RegExp, kind: Expected['kind'] = 'invalid'): Expected => ({ kind, says, calls: 0 })
const asked = (says: RegExp, kind: Expected['kind'] = 'invalid', calls = 1): Expected => ({ kind, says, calls })

describe('bad input', () => {
  it('is told at E2B', async () => {
    const fixture = await startE2b({ plan: { maxLifetimeSeconds: 3600 } })
    const { server } = fixture
    try {
      const noKey = before(/E2B_API_KEY is not set; put an E2B API key into it/, 'auth')
      const wrongKey = asked(/put a valid one into E2B_API_KEY/, 'auth')
      await holds(
        [
          { what: 'no key', provider: fixture.another({}, { E2B_API_KEY: undefined }), check: noKey, create: noKey },
          { what: 'an empty key', provider: fixture.another({}, { E2B_API_KEY: '  ' }), check: noKey, create: noKey },
          { what: 'a wrong key', provider: fixture.another({}, { E2B_API_KEY: 'e2b_wrong' }), check: wrongKey, create: wrongKey },
          { what: 'an unknown template', provider: fixture.another({ template: 'nowhere' }), check: undefined, create: asked(/template 'nowhere' not found/) },
          { what: 'the job’s unknown template', provider: fixture.another(), check: undefined, request: { image: 'nowhere' }, create: asked(/template 'nowhere' not found/) },
          {
            what: 'more than the template has',
            provider: fixture.another({ templates: { base: { cpu: 2, memoryMiB: 512 } } }),
            check: undefined,
            request: { resources: { memoryMiB: 8192 } },
            create: before(/resources\.memoryMiB: the template "base" has at most 512 and the job asks for 8192; name a template that has as much, or ask for less/),
          },
          { what: 'a lifetime over maxLifetime', provider: fixture.another(), check: undefined, request: { lifetimeMs: 7_200_000 }, create: before(/set maxLifetime to your plan's/) },
          { what: 'a maxLifetime over the plan’s', provider: fixture.another({ maxLifetime: '24h' }), check: undefined, request: { lifetimeMs: 7_200_000 }, create: asked(/Timeout cannot be greater than 1 hours/) },
        ],
        () => total(server.faults.calls()),
      )
      expect(server.host.state().created).toBe(0)
    } finally {
      await fixture.close()
    }
  })

  it('is told at Modal', async () => {
    const fixture = await startModal({ maxCpu: 16, maxMemoryMiB: 32_768 })
    const { server } = fixture
    try {
      const noToken = before(/MODAL_TOKEN_SECRET is not set; put a Modal token into MODAL_TOKEN_ID and MODAL_TOKEN_SECRET/, 'auth')
      const wrongToken = asked(/give a valid Modal token/, 'auth')
      const ask = (resources: SandboxRequest['resources']) => ({ resources })
      // The app, the image and its build come before the create.
      const atCreate = (says: RegExp): Expected => ({ kind: 'invalid', says, calls: expect.any(Number) as number })
      await holds(
        [
          { what: 'no token', provider: fixture.another({}, { MODAL_TOKEN_SECRET: undefined }), check: noToken, create: noToken },
          { what: 'an empty token', provider: fixture.another({}, { MODAL_TOKEN_SECRET: '' }), check: noToken, create: noToken },
          { what: 'a wrong token', provider: fixture.another({}, { MODAL_TOKEN_SECRET: 'as-wrong' }), check: wrongToken, create: wrongToken },
          { what: 'an unknown image', provider: fixture.another({ image: 'no-such-image' }), check: undefined, create: atCreate(/no-such-image.*check the image/) },
          { what: 'more CPUs than Modal has', provider: fixture.another(), check: undefined, request: ask({ cpu: 32 }), create: atCreate(/exceeds the maximum of 16.*check the image, the resources/) },
          { what: 'more than the configured maximum', provider: fixture.another({ maxResources: { cpu: 16 } }), check: undefined, request: ask({ cpu: 32 }), create: before(/resources\.cpu: a sandbox at Modal has at most 16 and the job asks for 32/) },
          { what: 'a disk', provider: fixture.another(), check: undefined, request: ask({ diskMiB: 1024 }), create: before(/resources\.diskMiB can't be set at Modal/) },
          { what: 'a lifetime over Modal’s', provider: fixture.another(), check: undefined, request: { lifetimeMs: 25 * 3_600_000 }, create: before(/maxLifetime; Modal's own is 24 h/) },
        ],
        () => total(server.plan.calls()),
      )
      expect([server.state().created, server.plan.calls()['create']]).toEqual([0, 1])
      expect(modalProviderConfigSchema.safeParse({ maxLifetime: '25h' }).error?.message).toMatch(/between 1m and 24h/)
    } finally {
      await fixture.close()
    }
  })

  it('is told at Daytona', async () => {
    const fixture = await startDaytona({ snapshots: { old: 'inactive' }, activation: { refused: 'Snapshot quota exceeded' }, missingImages: ['nowhere:1'], perSandbox: { cpu: 4, memoryGiB: 8, diskGiB: 10 } })
    const { server } = fixture
    const keyed = (env: Readonly<Record<string, string>>) => new DaytonaProvider(daytonaProviderConfigSchema.parse({ apiUrl: server.apiUrl }), { env })
    try {
      const wrongKey = asked(/check the API key in DAYTONA_API_KEY/, 'auth', 0) // Refused before it counts as any call.
      const image = fixture.another({ image: 'debian:12' })
      await holds(
        [
          { what: 'no key', provider: keyed({}), check: before(/DAYTONA_API_KEY is not set; put the Daytona API key there/, 'auth'), create: before(/is not set/, 'auth') },
          { what: 'an empty key', provider: keyed({ DAYTONA_API_KEY: '' }), check: before(/DAYTONA_API_KEY is empty/, 'auth'), create: before(/is empty/, 'auth') },
          { what: 'a wrong key', provider: keyed({ DAYTONA_API_KEY: 'dtn_wrong' }), check: wrongKey, create: wrongKey },
          { what: 'an unknown snapshot', provider: fixture.another({ snapshot: 'nowhere' }), check: asked(/nowhere.*check the names/, 'invalid', 2), create: asked(/Snapshot nowhere not found.*change the image, the snapshot/) },
          { what: 'a snapshot that is not active', provider: fixture.another({ snapshot: 'old' }), check: asked(/the snapshot "old" of this provider's entry is inactive \(Snapshot quota exceeded\); activate or build it/, 'invalid', 3), create: asked(/of this provider's entry is inactive/, 'invalid', 3) },
          { what: 'an unknown image', provider: fixture.another({ image: 'nowhere:1' }), check: undefined, create: { kind: 'invalid', says: /image "nowhere:1" can't be built or pulled.*name one that exists/, calls: expect.any(Number) as number } },
          { what: 'more than one sandbox may have', provider: image, check: undefined, request: { resources: { cpu: 8 } }, create: asked(/CPU request 8 exceeds maximum allowed per sandbox \(4\)/) },
          { what: 'more than the configured maximum', provider: fixture.another({ image: 'debian:12', maxResources: { memoryMiB: 8192 } }), check: undefined, request: { resources: { memoryMiB: 16_384 } }, create: before(/resources\.memoryMiB: a sandbox of this organisation has at most 8192/) },
          { what: 'resources of a snapshot', provider: fixture.another(), check: undefined, request: { resources: { cpu: 1 } }, create: before(/resources can't be set for a snapshot/) },
          { what: 'a lifetime over maxLifetime', provider: fixture.another({ maxLifetime: '1h' }), check: undefined, request: { lifetimeMs: 7_200_000 }, create: before(/raise maxLifetime if the organisation allows more/) },
        ],
        () => total(server.plan.calls()),
      )
      await expect.poll(() => server.records.list().length).toBe(0)
    } finally {
      await fixture.close()
    }
  })

  it('is told on this machine', async () => {
    const provider = await localProvider({ cpu: 2, memoryMiB: 256, maxLifetimeMs: 60_000, isolation: 'none' })
    // A folder below a file.
    const nowhere = new LocalProvider({ stateDir: join(process.execPath, 'state') })
    expect(await failureOf(nowhere.check(call))).toMatchObject({ kind: 'provider-down', message: expect.stringContaining(process.execPath) as string })
    await holds(
      [
        { what: 'an image', provider, check: undefined, request: { image: 'python:3.12' }, create: before(/image: sandboxes on this machine have its own system; leave image out/) },
        { what: 'more CPUs than configured', provider, check: undefined, request: { resources: { cpu: 3 } }, create: before(/resources\.cpu: a sandbox of this provider has at most 2 and the job asks for 3/) },
        { what: 'a disk', provider, check: undefined, request: { resources: { diskMiB: 1024 } }, create: before(/resources\.diskMiB: needs bubblewrap; install it/) },
        { what: 'a lifetime over the maximum', provider, check: undefined, request: { lifetimeMs: 120_000 }, create: before(/lifetimeMs: 120000 is over this provider's maximum of 60000/) },
      ],
      () => 0,
    )
  })
})
