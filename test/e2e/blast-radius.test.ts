import { describe, expect, it } from 'vitest'
import { blast, faults } from '../../bench/in-memory/blast-radius.js'

/** One is bad, twenty are good: the good ones end as if it were not there, and the bad one says whose fault it was. */
describe('twenty good jobs beside', () => {
  it.each(faults.map((fault) => [fault.name, fault] as const))('%s', { timeout: 300_000 }, async (_name, fault) => {
    const { bad, good, loads, said, logs } = await blast(fault)
    expect(good.map(({ status, attempts }) => `${status} after ${attempts.length}`)).toEqual(Array.from({ length: 20 }, () => 'succeeded after 1'))
    const { status, attempts, code, owner, firstAttempt } = fault.ends
    expect({ status: bad?.status, error: bad?.error, attempts: bad?.attempts.length }).toMatchObject({ status, attempts, error: code === undefined ? null : { code, ...(owner === undefined ? {} : { owner }) } })
    if (firstAttempt !== undefined) expect(bad?.attempts[0]?.error).toMatchObject({ code: firstAttempt })
    // Nobody else is kept from a provider.
    expect(loads.map(({ provider, breaker }) => `${provider} ${breaker}`).sort()).toEqual(['a closed', 'b closed'])
    expect(logs.join('')).not.toContain('a defect in Switchyard')
    if (fault.name.includes('reached for a while')) {
      expect(said.join('')).toMatch(/waiting for sandbox \S+ at a, which lives but can't be reached, until \d\d:\d\d:\d\d at most: a: exec: bad gateway/)
      expect(said.join('')).toMatch(/goes on after \d+ s of waiting/)
    }
  })
})
