import { expect, it } from 'vitest'
import { TenantLabels } from '../../src/telemetry/tenant-labels.js'
import fc from '../seeded-fast-check.js'

it('gives a label to so many tenants at once and no more, each its own, and `other` to all the rest', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(30), fc.nat(200_000)), { maxLength: 400 }), fc.integer({ min: 1, max: 8 }), (acts, most) => {
      let nowMs = 0
      const held = new Set<string>()
      const labels = new TenantLabels((label) => expect(held.delete(label)).toBe(true), () => nowMs, most)
      for (const [tenant, waitsMs] of acts) {
        nowMs += waitsMs
        const name = `t${tenant}`
        const label = labels.labelFor(name)
        expect([name, 'other']).toContain(label)
        if (label !== 'other') held.add(label)
        expect(held.size).toBeLessThanOrEqual(most)
      }
    }),
    { numRuns: 50 },
  )
})

it('tells the busiest apart, however many there are, and lets them keep their labels', () => {
  let nowMs = 0
  const dropped: string[] = []
  const labels = new TenantLabels((label) => dropped.push(label), () => nowMs, 3)
  // Five hundred that come once, then three busy ones among them.
  for (let each = 0; each < 500; each++) labels.labelFor(`once-${each}`)
  for (let each = 0; each < 20; each++) for (const name of ['a', 'b', 'c', `more-${each}`]) labels.labelFor(name)
  expect(['a', 'b', 'c', 'more-1'].map((name) => labels.labelFor(name))).toEqual(['a', 'b', 'c', 'other'])
  const before = dropped.length
  for (let each = 0; each < 500; each++) {
    nowMs += 10_000
    for (const name of ['a', 'b', 'c', 'd']) labels.labelFor(name)
  }
  // One that is as busy as they are takes nobody's.
  expect(dropped.length).toBe(before)
  expect(labels.labelFor('d')).toBe('other')
  // One that is clearly busier does, once the others have been quiet.
  for (let each = 0; each < 60; each++) {
    nowMs += 600_000
    labels.labelFor('d')
  }
  expect(labels.labelFor('d')).toBe('d')
  expect(dropped.length).toBe(before + 1)
})

it('tells a tenant that is called other from the others, and jobs without a tenant from both', () => {
  const labels = new TenantLabels(() => undefined, () => 0, 1)
  expect([labels.labelFor('other'), labels.labelFor('x'), labels.labelFor('')]).toEqual(['"other"', 'other', ''])
})
