import { configDefaults, defineConfig } from 'vitest/config'

/**
 * What takes minutes, because it goes through a whole kind of which other files try some: `npm run test:long`, before a release.
 * A file that is named is run in any case.
 */
const long = [
  'test/chaos/chaos.test.ts',
  'test/cli/demo-providers.test.ts',
  'test/e2e/redis-cluster.test.ts',
  'test/e2e/redis-sentinels.test.ts',
  'test/e2e/rolling-restart.test.ts',
  'test/fidelity/moved-job.test.ts',
  'test/fidelity/sequences.test.ts',
  'test/fidelity/table.test.ts',
  'test/runner/packs.test.ts',
]
const only = process.env['SWITCHYARD_TESTS'] === 'long'
const left = long.filter((file) => !process.argv.some((argument) => argument.startsWith('test') && file.startsWith(argument.replace(/^\.\//, ''))))

export default defineConfig({
  cacheDir: '.cache/vite',
  test: {
    include: only ? long : ['test/**/*.test.ts'],
    exclude: only ? configDefaults.exclude : [...configDefaults.exclude, ...left],
    // Tests start real servers and processes and mostly wait for them: two cores carry three files side by side. Six pass too, and show what
    // leans on time: npx vitest run --maxWorkers=6.
    pool: 'forks',
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
