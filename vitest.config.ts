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

/** Files that start nothing but servers within their own process, and Redis. */
const quick = [
  ...['artifacts', 'config', 'consumers', 'events', 'git', 'http', 'job', 'monitor', 'producers', 'store', 'webhooks'].map((folder) => `test/${folder}/**/*.test.ts`),
  'test/providers/{daytona,e2b,modal}-{command,errors,exec,injected-headers,sandboxes,server,setup,sorting}.test.ts',
  'test/providers/{error-owners,let-through}.test.ts',
]

/** Files that start programs too, and change nothing that belongs to their whole process, as what it has loaded, its folder or its memory. */
const starting = [
  'test/chaos/checker.test.ts',
  'test/cli/close-in-turn.test.ts',
  'test/cli/commands.test.ts',
  'test/cli/demo-agent.test.ts',
  'test/cli/demo.test.ts',
  'test/cli/doctor.test.ts',
  'test/cli/events.test.ts',
  'test/cli/init.test.ts',
  'test/cli/install-agent.test.ts',
  'test/cli/operate.test.ts',
  'test/cli/output-attacks.test.ts',
  'test/cli/probes.test.ts',
  'test/cli/pure.test.ts',
  'test/cli/seed-repository.test.ts',
  'test/cli/serve.test.ts',
  'test/clients/contract.test.ts',
  'test/clients/current.test.ts',
  'test/docs/error-codes.test.ts',
  'test/docs/links.test.ts',
  'test/docs/provider-table.test.ts',
  'test/docs/reference.test.ts',
  'test/e2e/attempts.test.ts',
  'test/e2e/budgets.test.ts',
  'test/e2e/bullmq-means.test.ts',
  'test/e2e/cancel.test.ts',
  'test/e2e/capacity.test.ts',
  'test/e2e/concurrency.test.ts',
  'test/e2e/cost-of-a-job.test.ts',
  'test/e2e/costs.test.ts',
  'test/e2e/data-plane-outage.test.ts',
  'test/e2e/frozen-consumer.test.ts',
  'test/e2e/hand-over.test.ts',
  'test/e2e/idle-consumers.test.ts',
  'test/e2e/main-job.test.ts',
  'test/e2e/metrics.test.ts',
  'test/e2e/next-run.test.ts',
  'test/e2e/operate.test.ts',
  'test/e2e/pull-request.test.ts',
  'test/e2e/reaper.test.ts',
  'test/e2e/refused-keys.test.ts',
  'test/e2e/schedules.test.ts',
  'test/e2e/second-run.test.ts',
  'test/e2e/signed-work.test.ts',
  'test/e2e/three-providers.test.ts',
  'test/e2e/timeout.test.ts',
  'test/embedded/code-storage-api.test.ts',
  'test/embedded/code-storage-hostile.test.ts',
  'test/embedded/code-storage-methods.test.ts',
  'test/embedded/code-storage-pieces.test.ts',
  'test/embedded/code-storage-policy.test.ts',
  'test/embedded/code-storage-sdk.test.ts',
  'test/embedded/code-storage-tokens.test.ts',
  'test/embedded/redis.test.ts',
  'test/mcp/http.test.ts',
  'test/mcp/stdio.test.ts',
  'test/providers/e2b-conformance.test.ts',
  'test/providers/lazy-sdks.test.ts',
  'test/runner/forged-answers.test.ts',
  'test/runner/full-disk.test.ts',
  'test/runner/uploads.test.ts',
  'test/servers/model.test.ts',
  'test/servers/standalone.test.ts',
  'test/telemetry/tenant-labels.test.ts',
  'test/telemetry/waiting-ends.test.ts',
]

/**
 * They share a few processes, one after the other in each, since starting one and loading its modules takes longer than many of them. test/setup.ts undoes
 * what a file has changed.
 */
const sharing = [...quick, ...starting]

/** Files with a process of their own first, among them the large ones; those that share one follow each other, and the quick ones fill what time is left. */
class Sequencer extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ project, moduleId }: TestSpecification) => (project.name !== 'shared' ? 0 : starting.some((file) => moduleId.endsWith(`/${file}`)) ? 1 : 2)
    return (await super.sort(files)).sort((one, other) => rank(one) - rank(other))
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
      ...(only ? [] : [{ cacheDir, test: { ...options, name: 'shared', isolate: false, execArgv: ['--expose-gc'], include: sharing } }]),
    ],
    // Tests start real servers and processes and wait for them half of the time: two cores carry five files side by side. More show what leans
    // on time: npx vitest run --maxWorkers=8.
    maxWorkers: Math.min(8, 2 * availableParallelism() + 1),
    sequence: { sequencer: Sequencer },
  },
})
