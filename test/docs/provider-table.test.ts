import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { described, documentWithTables } from '../../script/write-provider-table.js'
import { providerTypes } from '../../src/config/providers.js'

const text = await readFile('docs/providers.md', 'utf8')

describe('the providers’ tables in the documents', () => {
  // Elsewhere `local` has no namespaces, and can do less.
  it.skipIf(process.platform !== 'linux')('are current; otherwise run npx tsx script/write-provider-table.ts', async () => {
    expect(await documentWithTables(text)).toBe(text)
  })

  it('have every type of provider', () => {
    expect(Object.keys(described).sort()).toEqual(providerTypes.filter((type) => type !== 'custom').sort())
  })

  it('say what every setting means', async () => {
    const settings = (text.split('<!-- ')[1] ?? '').split('\n').filter((line) => /^\| `\w+` \|[^|]*\|[^|]*\|$/.test(line))
    expect(settings.length).toBeGreaterThan(30)
    for (const line of settings) expect(line).toMatch(/\| [^|]{10,} \|$/)
  })

  it('need their markers', async () => {
    await expect(documentWithTables('# Providers\n')).rejects.toThrow('the two markers are missing')
  })
})
