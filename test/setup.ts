import { afterAll, afterEach, vi } from 'vitest'
import { undone } from './undo.js'

// For every file: what a test has started or changed would hold its process otherwise, or reach the next file where several share one.
afterEach(undone)
afterAll(() => {
  vi.useRealTimers()
  vi.unstubAllEnvs()
  vi.unstubAllGlobals()
  // A process starts its programs the slower the larger it is.
  if (process.memoryUsage.rss() > 350_000_000) globalThis.gc?.()
})
