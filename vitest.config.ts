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
const only = process.env['SWITCHYARD_TESTS'] === 'long'
const left = long.filter((file) => !process.argv.some((argument) => argument.startsWith('test') && file.startsWith(argument.replace(/^\.\//, ''))))

/**
 * Files that start nothing but servers within their own process, and Redis: they share a process, one after the other, since starting one and loading
 * its modules takes longer than most of them. test/setup.ts undoes what a file has changed.
 */
const sharing = [
  ...['artifacts', 'config', 'consumers', 'events', 'git', 'http', 'job', 'monitor', 'producers', 'store', 'webhooks'].map((folder) => `test/${folder}/**/*.test.ts`),
  'test/providers/{daytona,e2b,modal}-{command,errors,exec,injected-headers,sandboxes,server,setup,sorting}.test.ts',
  'test/providers/{error-owners,let-through}.test.ts',
]

/** Files with a process of their own first, among them the large ones; those that share one follow each other and fill what time is left. */
class Sequencer extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files)
    const shares = ({ project }: TestSpecification) => project.name === 'shared'
    return [...sorted.filter((file) => !shares(file)), ...sorted.filter(shares)]
  }
}

// Each project has these by itself: what one inherits, as maxWorkers, no option of the command line would change.
const cacheDir = '.cache/vite'
// What is waited for has the time of a machine with much else to do: who waits for a condition is not made slower by that.
const options = { pool: 'forks' as const, setupFiles: ['test/setup.ts'], testTimeout: 240_000, hookTimeout: 240_000, expect: { poll: { timeout: 60_000, interval: 50 } } }

export default defineConfig({
  cacheDir,
  test: {
    projects: [
      { cacheDir, test: { ...options, name: 'own', include: only ? long : ['test/**/*.test.ts'], exclude: [...configDefaults.exclude, ...(only ? [] : [...left, ...sharing])] } },
      ...(only ? [] : [{ cacheDir, test: { ...options, name: 'shared', isolate: false, include: sharing } }]),
    ],
    // Tests start real servers and processes and wait for them half of the time: two cores carry five files side by side. More show what leans
    // on time: npx vitest run --maxWorkers=8.
    maxWorkers: Math.min(8, 2 * availableParallelism() + 1),
    sequence: { sequencer: Sequencer },
  },
})
