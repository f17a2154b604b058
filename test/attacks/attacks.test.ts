import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { whole } from '../whole.js'
import { attack, keepsPromise } from './harness.js'
import { placesHere } from './places.js'
import { documentWithAttacks, expectedOf, rows } from './table.js'

// All servers' sandboxes are made by the same code: CI takes one of the servers, `npm run test:long` each.
const places = [...(await placesHere())].filter(([name]) => whole || (name !== 'modal' && name !== 'daytona'))

describe.each(places)('at the place "%s"', (name, open) => {
  it('attacks come to nothing, except for those that the documents name', { timeout: 300_000 }, async () => {
    const place = await open()
    try {
      // The command tries the rest at those too: all servers' sandboxes are made by the same code.
      const found = await attack(place, !['plain', 'modal', 'daytona'].includes(name))
      expect(found.map(({ tries }) => tries)).toEqual(rows.slice(0, found.length).map(({ tries }) => tries))
      const broken = found.filter((each, index) => !keepsPromise(expectedOf(rows[index]!, name), each, name))
      expect(broken).toEqual([])
      // The scripts do find what they look for: without walls most of it.
      if (name === 'plain') expect(found.filter(({ outcome }) => outcome === 'open').length).toBeGreaterThan(8)
      else expect(found.filter(({ outcome }) => outcome === 'untried').length).toBeLessThan({ docker: 16, e2b: 10, 'user servers': 10 }[name as string] ?? 7)
    } finally {
      await place.close()
    }
  })
})

it('the table in docs/security.md is current; otherwise run npm run attack -- --write', async () => {
  const text = await readFile('docs/security.md', 'utf8')
  expect(documentWithAttacks(text)).toBe(text)
})
