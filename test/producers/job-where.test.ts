import { describe, expect, it } from 'vitest'
import { InvalidInputError } from '../../src/job/errors.js'
import { parseWhere } from '../../src/producers/index.js'
import fc from '../seeded-fast-check.js'

const nowMs = Date.parse('2026-12-01T08:00:00Z')
const none = { state: undefined, tenant: undefined, repository: undefined, since: undefined, error: undefined }

it.each([
  ['state=failed tenant=acme since=2h error=provider-down', { state: 'failed', tenant: 'acme', since: nowMs - 7_200_000, error: 'provider-down' }],
  ['  repository=acme/web\n', { repository: 'acme/web' }],
  ['tenant="acme inc = x" since=2026-11-01T00:00:00Z', { tenant: 'acme inc = x', since: Date.parse('2026-11-01T00:00:00Z') }],
  ['error=SWY_STEP_FAILED', { error: 'SWY_STEP_FAILED' }],
])('%s', (text, filter) => expect(parseWhere(text, nowMs)).toEqual({ ...none, ...filter }))

describe('a filter that is wrong', () => {
  it.each([
    ['', [/^where: is empty; say which jobs/]],
    ['failed', [/^where: "failed" is not of the form name=value/]],
    ['stat=failed', [/^where: "stat" is not known \(did you mean "state"\?\); known are state, tenant/]],
    ['state=faild', [/^where: state: "faild" must be one of .*\(did you mean "failed"\?\)/]],
    ['tenant=', [/^where: tenant has no value/]],
    ['tenant=a tenant=b', [/^where: tenant is given twice/]],
    ['since=yesterday', [/^where: since: "yesterday" must be a duration such as 2h/]],
    ['since=2026-02-30T08:00:00Z', [/^where: since: "2026-02-30T08:00:00Z" names a day that no calendar has; look at its month$/]],
    [`since=${'9'.repeat(200)}d`, [/^where: since: "9+d" must be a duration such as 2h/]],
    ['error=provider-dwn', [/^where: error: "provider-dwn" is neither .*\(did you mean "provider-down"\?\)/]],
    ['state=x since=y what', [/state/, /since/, /"what"/]],
    [`tenant=${'x'.repeat(3_000)}`, [/longer than 2000/]],
  ])('%s', (text, problems) => {
    let found: readonly string[] = []
    try {
      parseWhere(text, nowMs)
    } catch (error) {
      if (!(error instanceof InvalidInputError)) throw error
      found = error.problems
    }
    expect(found).toEqual(problems.map((problem) => expect.stringMatching(problem) as unknown))
  })

  it('is never taken for one that finds every job', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (text) => {
        try {
          const found = parseWhere(text, nowMs)
          expect(Object.values(found).some((value) => value !== undefined)).toBe(true)
        } catch (error) {
          expect(error).toBeInstanceOf(InvalidInputError)
        }
      }),
    )
  })
})
