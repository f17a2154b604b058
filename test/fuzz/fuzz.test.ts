import { describe, expect, it } from 'vitest'
import { fuzz, target } from './harness.js'
import { targets } from './targets.js'
import fc from 'fast-check'
import { whole } from '../whole.js'

/** A short run, shorter in CI; `npm run fuzz` does as many as one likes. Another seed each day would make a failure somebody else's. */
const runs = whole ? 500 : 100
/** Of those that processes of their own take. */
const costly = whole ? 200 : 40

describe('many inputs', () => {
  it.each(targets.map((each) => [each.name, each] as const))('of %s do no harm', async (_name, each) => {
    const { problem } = await fuzz(each, { runs: each.atOnce > 1 ? costly : runs, seed: 14 })
    expect(problem).toBeNull()
  }, 300_000)
})

describe('the harness finds', () => {
  it('an input that throws, with the seed that repeats it', async () => {
    const { problem } = await fuzz(target('throws', () => ({ inputs: fc.nat(100), check: (n) => { if (n > 90) throw new Error('boom') } })), { runs: 200, seed: 1 })
    expect(problem).toContain('boom')
    expect(problem).toContain('seed')
  })
  it('memory that grows with every input', async () => {
    const held: Buffer[] = []
    const { problem } = await fuzz(target('grows', () => ({ inputs: fc.nat(), check: (n) => void held.push(Buffer.alloc(1024 * 1024, n)) })), { runs: 100, seed: 1 })
    expect(problem).toMatch(/MiB more are held/)
  })
})
