import { availableParallelism } from 'node:os'
import { configDefaults, defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/**
 * What takes minutes, because it goes through a whole kind of which other files try some: `npm run test:long`, before a release.
 * A file that is named is run in any case.
 */
const long = [
  'test/chaos/chaos.test.ts',
  'test/cli/demo-providers.test.ts',
  'test/deploy/packed.test.ts',
  'test/e2e/redis-cluster.test.ts',
  'test/e2e/redis-sentinels.test.ts',
  'test/e2e/rolling-restart.test.ts',
  'test/fidelity/moved-job.test.ts',
  'test/fidelity/sequences.test.ts',
  'test/fidelity/table.test.ts',
  'test/providers/local-plain-conformance.test.ts',
  'test/runner/packs.test.ts',
]
/** Files with tables of which CI takes what spans them, and `npm run test:long` each row (`test/whole.ts`). */
const tables = [
  'test/agents/stand-in-job.test.ts',
  'test/attacks/attacks.test.ts',
  'test/cli/commands.test.ts',
  'test/cli/demo.test.ts',
  'test/cli/hostile-arguments.test.ts',
  'test/consumers/masked-forms.test.ts',
  'test/consumers/redaction.test.ts',
  'test/deploy/supply-chain.test.ts',
  'test/docs/snippets.test.ts',
  'test/e2e/artifacts.test.ts',
  'test/e2e/bad-input.test.ts',
  'test/e2e/brokered-kill.test.ts',
  'test/e2e/cancel.test.ts',
  'test/e2e/credentials.test.ts',
  'test/e2e/frozen-consumer.test.ts',
  'test/e2e/hand-over-phases.test.ts',
  'test/e2e/hostile-jobs.test.ts',
  'test/e2e/injected-secrets.test.ts',
  'test/e2e/job-attacks.test.ts',
  'test/e2e/planned-move-killed.test.ts',
  'test/e2e/redis-outages.test.ts',
  'test/e2e/resume.test.ts',
  'test/e2e/three-providers.test.ts',
  'test/embedded/code-storage-hostile.test.ts',
  'test/embedded/code-storage-methods.test.ts',
  'test/embedded/code-storage-streaming.test.ts',
  'test/fuzz/fuzz.test.ts',
  'test/git/foreign-commits.test.ts',
  'test/git/signing.test.ts',
  'test/http/hostile.test.ts',
  'test/job/git-rules.test.ts',
  'test/mcp/http.test.ts',
  'test/providers/e2b-sandboxes.test.ts',
  'test/providers/{daytona,e2b,modal}-conformance.test.ts',
  'test/runner/artifacts.test.ts',
  'test/runner/checkpoint-fidelity.test.ts',
  'test/runner/checkpoint.test.ts',
  'test/runner/forged-answers.test.ts',
  'test/runner/lfs.test.ts',
  'test/runner/packages.test.ts',
  'test/runner/steps.test.ts',
]
const only = process.env['SWITCHYARD_TESTS'] === 'long'
const left = long.filter((file) => !process.argv.some((argument) => argument.startsWith('test') && file.startsWith(argument.replace(/^\.\//, ''))))

/**
 * Files that change something of their whole process, as what it has loaded, its folder or its tracing, or that measure it. They have one of their own. All
 * others share a few, one after the other in each, since starting one and loading its modules takes longer than many of them; test/setup.ts undoes what a
 * file has changed.
 */
const alone = [
  'test/agents/real-agents.test.ts',
  'test/cli/hostile-arguments.test.ts',
  'test/docs/{quickstart,snippets}.test.ts',
  'test/e2e/{docker-job,traces}.test.ts',
  'test/embedded/code-storage-streaming.test.ts',
  'test/providers/{docker,local}-*.test.ts',
  'test/providers/seccomp.test.ts',
  'test/telemetry/{metrics,otlp,tracing}.test.ts',
]

/** Folders of files that start nothing but servers within their own process, and Redis. */
const quick = /\/test\/(artifacts|config|consumers|events|git|http|job|monitor|producers|store|webhooks)\//

/** Files with a process of their own first, then those that start programs, and the quick ones fill what time is left. */
class Sequencer extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ project, moduleId }: TestSpecification) => (project.name !== 'shared' ? 0 : quick.test(moduleId) ? 2 : 1)
    return (await super.sort(files)).sort((one, other) => rank(one) - rank(other))
  }
}

// Each project has these by itself: what one inherits, as maxWorkers, no option of the command line would change.
const cacheDir = '.cache/vite'
// Modal's SDK reads its file when it is loaded: a developer's own has no say here, in whichever file of a process that is.
const env = { MODAL_CONFIG_PATH: '/dev/null' }
// Most of what a test makes is gone soon: with room for it there are fewer collections, which saves a twelfth of the processor time.
const execArgv = ['--max-semi-space-size=64']
// What is waited for has the time of a machine with much else to do: who waits for a condition is not made slower by that.
const options = { pool: 'forks' as const, setupFiles: ['test/setup.ts'], testTimeout: 240_000, hookTimeout: 240_000, expect: { poll: { timeout: 60_000, interval: 50 } }, env, execArgv }

export default defineConfig({
  cacheDir,
  test: {
    projects: [
      { cacheDir, test: { ...options, name: 'own', include: [...long, ...(only ? tables : alone)], exclude: [...configDefaults.exclude, ...(only ? [] : left)] } },
      ...(only ? [] : [{ cacheDir, test: { ...options, name: 'shared', isolate: false, execArgv: [...execArgv, '--expose-gc'], include: ['test/**/*.test.ts'], exclude: [...configDefaults.exclude, ...long, ...alone] } }]),
    ],
    // Tests start real servers and processes and wait for them half of the time: two cores carry five files side by side. More show what leans
    // on time: npx vitest run --maxWorkers=8.
    maxWorkers: Math.min(8, 2 * availableParallelism() + 1),
    sequence: { sequencer: Sequencer },
  },
})
