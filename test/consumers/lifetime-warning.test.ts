import { describe, expect, it } from 'vitest'
import { lifetimeWarning } from '../../src/consumers/placing/lifetime-warning.js'

const nowMs = Date.parse('2026-01-02T10:00:00Z')
const minutes = (count: number) => nowMs + count * 60_000
const step = (name: string, timeoutMinutes?: number, resume?: string) => ({ name, timeoutMs: timeoutMinutes === undefined ? undefined : timeoutMinutes * 60_000, resume })
const warn = (steps: ReturnType<typeof step>[], endsAtMs: number | undefined, deadlineMs: number) => lifetimeWarning(steps, { provider: 'e2b', endsAtMs, nowMs, deadlineMs })

describe('a job whose sandbox may end before it does', () => {
  it('is told of the steps that may be lost, and what mends it', () => {
    expect(warn([step('build', 20), step('agent'), step('check', 90)], minutes(60), minutes(240))).toBe(
      'this sandbox of e2b ends at 11:00:00 (UTC) at the latest, in 3600 s, and the job may run until 14:00:00: of "agent", "check" what still runs then is lost with it and begins again in another sandbox; ' +
        'give such a step a "resume" to be moved with or a shorter timeout, or allow a provider whose sandboxes live longer',
    )
  })

  it.each([
    ['the sandbox has no end', [step('agent')], undefined, 240],
    ['the sandbox lives as long as the job', [step('agent')], 60, 60.5],
    ['every long step can be moved', [step('build', 20), step('agent', undefined, 'go on')], 60, 240],
    ['every step’s own timeout fits', [step('build', 20), step('agent', 60)], 60, 240],
    ['no step is left', [], 60, 240],
  ])('is told nothing when %s', (_what, steps, ends, deadline) => {
    expect(warn(steps, ends === undefined ? undefined : minutes(ends), minutes(deadline))).toBeUndefined()
  })
})
