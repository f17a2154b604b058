import { execCases } from './exec-cases.js'
import { Fixture, type ClientProgram, type ConformanceCase, type ProviderUnderTest } from './fixture.js'
import { embeddedGit, type GitUnderTest } from './git-under-test.js'
import { killedClientCase } from './killed-client.js'
import { lifecycleCases } from './lifecycle-cases.js'
import { gitCases, runnerCases } from './runner-cases.js'

export { runConformanceClient } from './killed-client.js'
export type { GitUnderTest } from './git-under-test.js'
export type { ClientProgram, ProviderUnderTest } from './fixture.js'

/** The functions of a test runner that the suite uses: hand in vitest's, or those of any runner that has them. */
export interface TestFunctions {
  describe(name: string, define: () => void): unknown
  /** @param timeoutMs how long the case may take. */
  it(name: string, run: () => Promise<void>, timeoutMs: number): unknown
  beforeAll(run: () => Promise<void>, timeoutMs: number): unknown
  afterAll(run: () => Promise<void>, timeoutMs: number): unknown
}

export interface ConformanceOptions {
  /** Shown in the test's name, such as "e2b". */
  readonly name: string
  /** Makes the provider under test; called once. `cleanup` runs at the end, when no sandbox of the suite is left. */
  readonly create: () => Promise<ProviderUnderTest & { readonly cleanup: () => Promise<void> }>
  /** The image or template to create sandboxes from; the provider's default if left out. */
  readonly image?: string | undefined
  /** Names of cases not to run, each of which should have a reason next to it. An unknown name is an error. */
  readonly skip?: readonly string[] | undefined
  /**
   * Where sandboxes clone from and push to: `embedded` starts a local Code Storage, for sandboxes that reach this machine's
   * loopback; others give a repository that theirs reach. Left out, the cases about git are not defined.
   */
  readonly git?: 'embedded' | (() => Promise<GitUnderTest>) | undefined
  /**
   * A program that makes the same provider and calls `runConformanceClient` with it: the suite kills its process in the middle of a
   * step and goes on. Asked for once the provider was made. Left out, that case is not defined.
   */
  readonly client?: (() => ClientProgram) | undefined
  /** The deadline of one provider call in milliseconds. Default 60,000. */
  readonly callTimeoutMs?: number | undefined
  /** How many sandboxes the case about many at once makes. Default 20. */
  readonly manySandboxes?: number | undefined
}

const cases: readonly ConformanceCase[] = [...lifecycleCases, ...execCases, ...runnerCases, killedClientCase, ...gitCases]

/** The names of all cases, for `skip`. */
export const conformanceCases: readonly string[] = cases.map(({ name }) => name)

/**
 * Defines the test suite that every adapter must pass, a user's own too:
 *
 * ```ts
 * import * as vitest from 'vitest'
 * import { describeProviderConformance } from 'switchyard/providers/conformance'
 *
 * describeProviderConformance(
 *   {
 *     name: 'mine',
 *     create: async () => ({
 *       provider: new MyProvider(config),
 *       another: async () => new MyProvider(config),
 *       cleanup: async () => {},
 *     }),
 *   },
 *   vitest,
 * )
 * ```
 *
 * It creates real sandboxes (about 30, most of them for seconds) and kills each; what is left is found by its tags.
 * @throws Error when `skip` names a case that there is not.
 */
export function describeProviderConformance(options: ConformanceOptions, test: TestFunctions): void {
  const skip = options.skip ?? []
  for (const name of skip) {
    if (!conformanceCases.includes(name)) throw new Error(`skip: there is no conformance case "${name}"; the names are in conformanceCases`)
  }
  const callTimeoutMs = options.callTimeoutMs ?? 60_000
  const caseTimeoutMs = 5 * callTimeoutMs
  test.describe(`provider conformance: ${options.name}`, () => {
    let fixture: Fixture | undefined
    let git: GitUnderTest | undefined
    let cleanup: (() => Promise<void>) | undefined
    test.beforeAll(async () => {
      const made = await options.create()
      cleanup = made.cleanup
      git = await (options.git === 'embedded' ? embeddedGit() : options.git?.())
      fixture = new Fixture(made, { image: options.image, callTimeoutMs, manySandboxes: options.manySandboxes ?? 20 }, git, options.client)
    }, caseTimeoutMs)
    test.afterAll(async () => {
      try {
        await fixture?.end()
      } finally {
        try {
          await git?.close()
        } finally {
          await cleanup?.()
        }
      }
    }, caseTimeoutMs)
    const left = [...(options.git === undefined ? gitCases : []), ...(options.client === undefined ? [killedClientCase] : [])]
    for (const { name, run } of cases.filter((each) => !left.includes(each))) {
      if (skip.includes(name)) continue
      test.it(name, async () => {
        if (fixture === undefined) throw new Error('the provider under test was not made; see the error of its setup')
        await run(fixture)
      }, caseTimeoutMs)
    }
  })
}
