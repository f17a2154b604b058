import { expect, it } from 'vitest'
import { didYouMean, nearestName } from '../../src/job/nearest-name.js'
import fc from '../seeded-fast-check.js'

it.each([
  ['e2bb', ['e2b', 'modal'], 'e2b'],
  ['modla', ['e2b', 'modal'], 'modal'],
  ['MODAL', ['e2b', 'modal'], 'modal'],
  ['mod', ['e2b', 'modal'], 'modal'],
  ['xyz', ['e2b', 'modal'], undefined],
  ['', ['e2b'], undefined],
  ['a', ['b'], 'b'],
  ['deploymnt', ['deployment', 'providers'], 'deployment'],
  ['anything', [], undefined],
])('"%s" among %j is %s', (wanted, known, name) => expect(nearestName(wanted, known)).toBe(name))

it('is one of those that are known, itself where it is, whatever the names are', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 80 }), fc.array(fc.string({ maxLength: 80 }), { maxLength: 8 }), (wanted, known) => {
      const name = nearestName(wanted, known)
      if (name !== undefined) expect(known).toContain(name)
      expect(didYouMean(wanted, known)).toBe(name === undefined ? '' : ` (did you mean "${name}"?)`)
    }),
  )
  expect(nearestName('e2b', ['e2bb', 'e2b'])).toBe('e2b')
})
