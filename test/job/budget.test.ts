import { describe, expect, it } from 'vitest'
import { amountProblem, parseBudget } from '../../src/job/budget-amount.js'
import { heldForBudget, horizonMs, leastPaidMs, neverFits, parksInVain, parksWithin, waitsForBudget, type Refusal } from '../../src/job/budget.js'
import { constraintsOf } from '../../src/job/constraints.js'
import { deadlineOf } from '../../src/job/deadlines.js'
import { newRunRecord, type RunRecord } from '../../src/job/run-record.js'
import { parseJobSpec } from '../../src/job/spec.js'

const leftMs = 3_600_000
const periodMs = 60_000
const time = { leftMs, periodMs }
const fresh = newRunRecord({ jobId: 'one', generation: 1, repository: 'acme/web', startedAtMs: 1 })
const spec = (more: object) => parseJobSpec({ repository: 'acme/web', steps: ['true'], ...more })
const resumes = { checkpoint: { paths: ['~/.memory'] }, steps: [{ run: 'agent', resume: 'agent --resume' }, { run: 'npm test', timeout: '5m' }] }

describe('what must be paid for before a job goes on', () => {
  it.each<[string, object, Partial<RunRecord>, number]>([
    ['a period, where its step can be parked within', resumes, {}, periodMs],
    ['a step’s timeout, where it can’t', resumes, { stepIndex: 1 }, 300_000],
    ['no more than what is left of the job’s', { steps: [{ run: 'true', timeout: '2h' }] }, {}, leftMs],
    ['all that is left of the job’s, where a step has none', {}, {}, leftMs],
    ['all that is left of the job’s, where nothing can be saved', { push: false, steps: [{ run: 'true', timeout: '5m' }] }, {}, leftMs],
    ['a period, past its steps', {}, { stepIndex: 1 }, periodMs],
    ['a period, while it is brought to its end', { push: false }, { phase: 'closing' }, periodMs],
  ])('%s', (_what, of, record, expected) => {
    expect(horizonMs(spec(of), { ...fresh, ...record }, time)).toBe(expected)
  })

  it('at its start, at least what it is told apart by in the index, which is more than half of that', () => {
    for (const of of [resumes, {}, { timeout: '1s' }, { timeout: '65536ms' }, { push: false, timeout: '66s' }, { steps: [{ run: 'true', timeout: '3s' }], timeout: '2h' }, { timeout: '7d' }]) {
      const job = spec(of)
      const needed = horizonMs(job, fresh, { leftMs: job.timeoutMs, periodMs: 0 })
      expect([of, leastPaidMs(job)]).toEqual([of, needed === 0 ? 0 : expect.any(Number)])
      expect(leastPaidMs(job)).toBeLessThanOrEqual(needed)
      expect(2 * leastPaidMs(job)).toBeGreaterThanOrEqual(needed)
      // A job that has a run is told apart from those that have none, whatever it needs.
      expect(constraintsOf(job, true).id).not.toBe(constraintsOf(job).id)
    }
    expect(leastPaidMs(spec({ timeout: '66s' }))).toBe(65_536)
  })

  it('nothing, once the job’s time is up', () => {
    expect(horizonMs(spec({}), fresh, { leftMs: -1, periodMs })).toBe(0)
  })

  it.each([[resumes, 0, true], [resumes, 1, false], [{ push: false }, 0, false], [{}, 0, false]])('a job is parked within a step that it can go on from alone: %#', (of, stepIndex, within) => {
    expect(parksWithin(spec(of), { stepIndex })).toBe(within)
  })
})

describe('a budget as it is written', () => {
  it.each<[string, 'day' | null, number | string]>([
    ['20/day', 'day', 20_000_000],
    ['0.5/day', 'day', 500_000],
    ['7.50', null, 7_500_000],
    ['20', 'day', '"20" does not say for how long; a tenant has a budget for each day: give one such as "20/day"'],
    ['20/day', null, '"20/day" is an amount a day; a job has one for all of its time: give one such as "2.50"'],
    ['0/day', 'day', 'must be more than 0; remove the budget to lift it, or pause the tenant to stop its jobs'],
    ['-5/day', 'day', 'must be more than 0; remove the budget to lift it, or pause the tenant to stop its jobs'],
    ['2000000', null, 'must be at most 1000000'],
    ['much/day', 'day', '"much/day" is no amount; give one such as "20/day", in the deployment’s currency'],
    ['1e9', null, '"1e9" is no amount; give one such as "2.50", in the deployment’s currency'],
  ])('%s', (text, per, expected) => {
    expect(parseBudget(text, per)).toBe(expected)
  })

  it.each([[0, /more than 0/], [-1, /more than 0/], [NaN, /an amount/], [1e-9, /a millionth/], [1_000_001, /at most/], [2.5, undefined]])('the amount %d', (amount, problem) => {
    if (problem === undefined) expect(amountProblem(amount)).toBeUndefined()
    else expect(amountProblem(amount)).toMatch(problem)
  })

  it.each([[0, 'budget.amount: must be more than 0; leave it out for no budget'], [-3, 'budget.amount: must be more than 0; leave it out for no budget'], ['5', 'budget.amount: must be an amount such as 2.5, in the deployment’s currency'], [undefined, 'budget.amount: must be an amount such as 2.5, in the deployment’s currency']])('a job’s of %s is refused', (amount, problem) => {
    expect(() => spec({ budget: { amount } })).toThrow(problem)
  })
})

describe('what is said of a budget that has too little', () => {
  const refusal: Refusal = { of: 'tenant', spent: 20_000_000, reserved: 0, cap: 20_000_000, currency: 'USD', needed: 60_000, dayEnds: '00:00 Europe/Berlin' }
  it.each<[Partial<Refusal>, string | undefined, string]>([
    [{}, 'acme', "waits for tenant acme's budget: 20.00 of 20.00 USD spent today; raise it or wait until 00:00 Europe/Berlin"],
    [{ spent: 12_000_000, reserved: 5_000_000, needed: 3_600_000 }, 'acme', "waits for tenant acme's budget: 12.00 and 5.00 reserved of 20.00 USD spent today, and it needs 3.60 USD; raise it or wait until 00:00 Europe/Berlin"],
    [{}, undefined, 'waits for the budget of jobs without a tenant: 20.00 of 20.00 USD spent today; raise it or wait until 00:00 Europe/Berlin'],
    [{ of: 'job' }, 'acme', 'waits for its own budget: 20.00 of 20.00 USD spent; raise it'],
  ])('%#', (fields, tenant, text) => {
    expect(waitsForBudget({ ...refusal, ...fields }, tenant)).toBe(text)
  })

  it('of those that wait behind one, the least that they need', () => {
    expect(heldForBudget({ ...refusal, spent: 19_999_000, needed: 50_000 }, 'acme')).toBe("waits for tenant acme's budget: 19.999 of 20.00 USD spent today, and it needs at least 0.05 USD; raise it or wait until 00:00 Europe/Berlin")
  })

  it('only what is more than all of it can never be paid for', () => {
    expect(neverFits({ ...refusal, needed: 20_000_000 }, 'acme')).toBeUndefined()
    expect(neverFits({ ...refusal, needed: 20_000_001 }, 'acme')).toMatch(/^tenant acme's budget of a day of 20\.00 USD can't pay for .*, 20\.000001 USD; raise it/)
  })
})

describe('a parked job', () => {
  const attempt = (sandboxId: string | null): RunRecord['attempts'][number] => ({ provider: 'a', sandboxId, startedAt: new Date(0).toISOString(), endedAt: null, outcome: 'parked', error: null })
  const checkpoint = (sha: string): RunRecord['checkpoint'] => ({ sha, stepIndex: 0, headSha: sha, commitsAhead: 0, branch: 'b', atMs: 1, withinStep: true, holdsPaths: true, repositoryPath: null })
  const parking = { reason: null, atMs: 1, timeUsedMs: 1, place: '0/a', attempts: 1 }
  it.each<[string, Partial<RunRecord>, boolean]>([
    ['for the first time', { attempts: [attempt('s1')] }, false],
    ['where it was parked before', { parking, attempts: [attempt('s1'), attempt('s2')], checkpoint: checkpoint('a') }, true],
    ['at another checkpoint', { parking, attempts: [attempt('s1'), attempt('s2')], checkpoint: checkpoint('b') }, false],
    ['at another step', { parking, attempts: [attempt('s1'), attempt('s2')], checkpoint: checkpoint('a'), stepIndex: 1 }, false],
    ['without a sandbox since', { parking, attempts: [attempt('s1'), attempt(null)], checkpoint: checkpoint('a') }, false],
  ])('is in vain %s: %#', (_what, fields, vain) => {
    expect(parksInVain({ ...fresh, ...fields })).toBe(vain)
  })

  it('has no deadline until its next sandbox is there', () => {
    const of = spec({ timeout: '1h' })
    expect(deadlineOf({ ...fresh, attempts: [attempt('s1')], parking }, of, 0)).toBeNull()
    expect(deadlineOf({ ...fresh, attempts: [attempt('s1')], parking, firstSandboxAtMs: 1_000 }, of, 0)).toEqual({ kind: 'timeout', atMs: 1_000 + leftMs })
    // One that never had a sandbox waits for that no longer than it may.
    expect(deadlineOf({ ...fresh, parking: { ...parking, timeUsedMs: 0 } }, spec({ waitTimeout: '5m' }), 7)).toEqual({ kind: 'waitTimeout', atMs: 300_007 })
  })
})
