import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'

const documents = ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', ...readdirSync('docs').filter((name) => name.endsWith('.md')).map((name) => join('docs', name))]

/** A heading's anchor, as GitHub makes it. */
function anchorOf(heading: string): string {
  return heading.trim().toLowerCase().replace(/[`*]|[^\p{L}\p{N}\s_-]/gu, '').replaceAll(' ', '-')
}
function anchorsIn(document: string): string[] {
  return [...readFileSync(document, 'utf8').replace(/^```[^]*?^```/gm, '').matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => anchorOf(heading))
}

describe('links between the documents', () => {
  it.each(documents)('%s: lead to a file and a heading that there are', (document) => {
    const text = readFileSync(document, 'utf8').replace(/^```[^]*?^```/gm, '')
    const broken: string[] = []
    for (const [, target = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue
      const [path = '', anchor] = target.split('#')
      const file = path === '' ? document : normalize(join(dirname(document), path))
      if (!existsSync(file) || (anchor !== undefined && !anchorsIn(file).includes(anchor))) broken.push(target)
    }
    expect(broken).toEqual([])
  })

  it('docs/README.md names every document', () => {
    const map = readFileSync('docs/README.md', 'utf8')
    expect(readdirSync('docs').filter((name) => name.endsWith('.md') && name !== 'README.md' && !map.includes(`(${name}`))).toEqual([])
  })
})
