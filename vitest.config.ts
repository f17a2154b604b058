import { readdirSync, readFileSync } from 'node:fs'
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
/** Files of which CI tries less than `npm run test:long`: what asks test/whole.ts, itself or by what names the shells and the cases of providers that CI tries. */
const asksWhole = /\/(?:whole|conformance-in-ci)\.js'|\bshells\b/
const top = new URL('./', import.meta.url)
const tables = readdirSync(new URL('test', top), { recursive: true, encoding: 'utf8' })
  .map((path) => `test/${path}`)
  .filter((path) => path.endsWith('.test.ts') && !long.includes(path) && asksWhole.test(readFileSync(new URL(path, top), 'utf8')))
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
