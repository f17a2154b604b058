import { defineConfig } from 'vitest/config'

export default defineConfig({
  cacheDir: '.cache/vite',
  test: {
    include: ['test/**/*.test.ts'],
    // Tests start real servers and processes and mostly wait for them: two cores carry three files side by side, well within a quarter of an
    // hour. Six pass too, and show what leans on time: npx vitest run --maxWorkers=6.
    pool: 'forks',
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
