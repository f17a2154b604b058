import { parseHTML } from 'linkedom'
import { describe, expect, it } from 'vitest'
import { Links } from '../../src/job/page-links.js'
import { digestOf, nameOf } from '../../src/monitor/digest.js'
import { fleetFragments, FleetPage, fleetParts } from '../../src/monitor/pages/fleet-page.js'
import { jobFragments, JobPage } from '../../src/monitor/pages/job-page.js'
import { markup } from '../../src/monitor/pages/parts.js'
import { fixed, fleet, status, view, withTexts } from './hostile-state.js'

/** Nothing that a job, a provider or a consumer has named is more than text on a page, whichever field it stands in. */
const evil = [
  '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', '\'><svg/onload=alert(1)>', '</title></style></textarea></pre><script>1</script>', 'javascript:alert(1)', '{{7*7}}${7*7}', '&lt;b&gt;&#x3c;b>',
  '\u202ereversed\u2066', '\u001b[31mred\u001b]0;title\u0007', 'a\u2028b\u0000c\u0085d', '\ud800half', '../../login?x=%2f#y', 'n'.repeat(100_000), '\u200b\u200bunseen', 'مرحبا',
]
const links = new Links({ commitUrl: 'https://git.example/{repository}/commit/{sha}', branchUrl: 'https://git.example/{repository}/tree/{branch}', compareUrl: 'https://git.example/{repository}/compare/{base}...{sha}' })
const place = { base: '/ops', writable: true, token: 'the-token' }
const pageOf = (text: string) => [
  `<!doctype html>${markup(FleetPage({ ...place, parts: fleetParts(withTexts(fleet, text, fixed), place), queue: text, said: text, live: '/ops/fleet/live' }))}`,
  `<!doctype html>${markup(JobPage({ ...place, links, view: withTexts(view, text, fixed), said: text, live: null }))}`,
  `<!doctype html>${markup(JobPage({ ...place, links, view: { ...withTexts(view, text, fixed), status: { ...withTexts(status, text, fixed), result: null, state: 'running' } }, said: null, live: null }))}`,
]
// The elements and attributes of a page are those that plain texts give, but for links that there are none of.
interface Element {
  readonly tagName: string
  readonly attributes: Iterable<{ readonly name: string }>
  getAttribute(name: string): string | null
}
const elementsOf = (html: string, which = '*') => [...(parseHTML(html) as { document: { querySelectorAll(which: string): Iterable<Element> } }).document.querySelectorAll(which)]
const shape = (html: string) => elementsOf(html).map((element) => `${element.tagName} ${[...element.attributes].map(({ name }) => name).filter((name) => name !== 'dir').join(' ')}`)

describe('whatever stands in a field', () => {
  it.each(evil)('%j makes no element, no attribute and no address of its own', (text) => {
    for (const [index, html] of pageOf(text).entries()) {
      const plain = pageOf('x')[index]!
      const tags = (list: string[]) => list.map((each) => each.replace(/^A .*/, '')).filter((each) => each !== '' && !/^(LI|UL|SUMMARY|PRE|DETAILS)/.test(each))
      expect(tags(shape(html)).filter((each) => /SCRIPT|IMG|IFRAME|STYLE|OBJECT|BASE|META|LINK|FORM/.test(each))).toEqual(tags(shape(plain)).filter((each) => /SCRIPT|IMG|IFRAME|STYLE|OBJECT|BASE|META|LINK|FORM/.test(each)))
      for (const element of elementsOf(html)) for (const { name } of element.attributes) expect(name).not.toMatch(/^on|^style$|^srcdoc$/i)
      for (const element of elementsOf(html, '[href],[src],[action],[formaction],[data-live]')) {
        const address = element.getAttribute('href') ?? element.getAttribute('src') ?? element.getAttribute('action') ?? element.getAttribute('formaction') ?? element.getAttribute('data-live') ?? ''
        expect(address).toMatch(/^(https:\/\/git\.example\/|\/ops\/|#|data:,$)/)
        expect(address).not.toMatch(/\/\.\.?(\/|$)/)
      }
      // No control character, and nothing that turns text around or hides in it.
      expect(html).not.toMatch(/(?![\t\n])[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\u200b]|\p{Cs}/u)
      expect(html.length).toBeLessThan(120_000)
    }
  })

  it('is escaped, or gone, in what is sent to a page that is live', () => {
    for (const text of evil) {
      for (const { html } of [...fleetFragments(fleetParts(withTexts(fleet, text, fixed), place)), ...jobFragments(withTexts(view, text, fixed), { ...place, links })]) expect(html).not.toMatch(/<(script|img|svg\/)|[\u202e\u2028\u001b]/)
    }
  })

  it('is bounded and harmless in a job’s name and digest on the board', () => {
    for (const text of evil) {
      const name = nameOf({ name: text, data: { spec: { steps: [{ name: text }] } }, progress: { waiting: text } })
      expect(name.length).toBeLessThan(600)
      const running = digestOf({ ...withTexts(status, text, fixed), result: null }, links, withTexts(view, text, fixed))
      expect(JSON.stringify(name) + JSON.stringify(digestOf(withTexts(status, text, fixed), links)) + JSON.stringify(running)).not.toMatch(/[\u202e\u2028\u001b\u0085]|\\u001b|\\ud800/)
      expect(JSON.stringify(digestOf(withTexts(status, text, fixed), links)).length).toBeLessThan(12_000)
    }
    expect(nameOf({ name: 'acme/web', data: { spec: { steps: [{ name: 'agent' }] } }, progress: { step: '1/2 agent', provider: 'e2b' } })).toBe('acme/web · agent · 1/2 agent at e2b')
    expect(nameOf({ name: 'acme/web', data: { spec: { steps: [{ name: 'agent' }] } }, finishedOn: 1, failedReason: 'failed: exit 1' })).toBe('acme/web · agent · failed: exit 1')
    expect(nameOf({ name: 'acme/web', data: 5, finishedOn: 1, returnvalue: { status: 'succeeded' } })).toBe('acme/web · succeeded')
    expect(digestOf(status, links)).toMatchObject({ status: 'failed', exitCode: 1, stderr: ['e'], attempts: ['1. p: lost (m)'], steps: ['n: exit code 1, 0.0 s'], branch: 'br', commitUrl: 'https://git.example/r/commit/co', diff: '2 files, +1 −1', promoted: 't (created)', waiting: 'w' })
    expect(digestOf({ ...status, result: null, state: 'running' }, links, view)).toMatchObject({ status: 'running', step: 's', steps: ['n: exit code 1, 0.0 s'], attempts: ['1. p: lost (m)'], promotes: 'to p', commit: 'c' })
  })
})

describe('a link to the git host', () => {
  it('is encoded, and none where it would lead elsewhere', () => {
    expect(links.commit('acme/web', 'a?b#c')).toBe('https://git.example/acme/web/commit/a%3Fb%23c')
    expect(links.branch('acme/web', 'agent/x y')).toBe('https://git.example/acme/web/tree/agent/x%20y')
    for (const odd of ['..', 'a/../b', '.', '', '\ud800']) expect(links.commit(odd, 'sha')).toBeNull()
    expect(new Links().commit('acme/web', 'sha')).toBeNull()
  })

  it.each([
    ['http://git.example/{repository}/{sha}', /must be an https URL/],
    ['javascript:{sha}', /must be an https URL/],
    ['https://{repository}/{sha}', /part of the host that changes/],
    ['https://u:p@git.example/{sha}', /user name or a password/],
    ['https://git.example/{branch}', /knows no \{branch\}; there are \{repository\}, \{sha\}/],
    ['https://git.example/{sha', /must be an https URL/],
  ])('is refused as %s in the configuration', async (commitUrl, problem) => {
    const { configSchema } = await import('../../src/config/schema.js')
    expect(configSchema.safeParse({ board: { commitUrl } }).error?.issues[0]?.message).toMatch(problem)
  })
})
