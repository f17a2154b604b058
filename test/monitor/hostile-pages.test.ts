import { parseHTML } from 'linkedom'
import { describe, expect, it } from 'vitest'
import type { Fleet, JobView } from '../../src/job/fleet.js'
import { Links } from '../../src/job/page-links.js'
import type { JobResult } from '../../src/job/result.js'
import type { JobStatus } from '../../src/job/status.js'
import { digestOf, nameOf } from '../../src/monitor/digest.js'
import { fleetFragments, FleetPage, fleetParts } from '../../src/monitor/pages/fleet-page.js'
import { jobFragments, JobPage } from '../../src/monitor/pages/job-page.js'
import { markup } from '../../src/monitor/pages/parts.js'

/** Nothing that a job, a provider or a consumer has named is more than text on a page, whichever field it stands in. */
const evil = [
  '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', '\'><svg/onload=alert(1)>', '</title></style></textarea></pre><script>1</script>', 'javascript:alert(1)', '{{7*7}}${7*7}', '&lt;b&gt;&#x3c;b>',
  '\u202ereversed\u2066', '\u001b[31mred\u001b]0;title\u0007', 'a\u2028b\u0000c\u0085d', '\ud800half', '../../login?x=%2f#y', 'n'.repeat(100_000), '\u200b\u200bunseen', 'مرحبا',
]
/** An object in which every text is another's; what is named stays. */
function withTexts<Value>(value: Value, text: string, fixed: ReadonlySet<string>): Value {
  const made = (part: unknown, name: string): unknown => {
    if (typeof part === 'string') return fixed.has(name) ? part : text
    if (Array.isArray(part)) return part.map((each) => made(each, name))
    return typeof part === 'object' && part !== null ? Object.fromEntries(Object.entries(part).map(([key, inner]) => [key, made(inner, key)])) : part
  }
  return made(value, '') as Value
}
/** What the schemas fix. */
const fixed = new Set(['state', 'status', 'breaker', 'startedAt', 'endedAt', 'outcome', 'kind', 'result', 'action', 'url'])

const error = { kind: 'step-failed' as const, message: 'm', owner: 'job' as const, code: 'c' }
const result: JobResult = {
  jobId: 'j', status: 'failed', error, repository: 'r', baseSha: 'b', branch: 'br', commit: 'co', promoted: { to: 't', sha: 's', result: 'created' },
  pullRequest: { number: 1, url: 'https://git.example/1', base: 'b', action: 'opened', problems: ['p'] },
  steps: [{ name: 'n', exitCode: 1, durationMs: 1, stdoutTail: 'o', stderrTail: 'e' }],
  attempts: [{ provider: 'p', sandboxId: 's', startedAt: '2026-01-01T00:00:00.000Z', endedAt: '2026-01-01T00:01:00.000Z', outcome: 'lost', error }],
  diff: { files: 2, additions: 1, deletions: 1, paths: ['p', 'q'] }, unsaved: [{ path: 'p', reason: 'r' }], unsavedMore: 0, kept: [{ branch: 'b', commit: 'c', ref: 'r' }],
  artifacts: [{ path: 'p', sizeBytes: 1, mediaType: 'm', sha256: 's', where: 'w', from: 'sandbox' }], artifactsMissed: [], artifactsMissedMore: 0,
  tests: { reports: 1, tests: 1, failures: 1, errors: 0, skipped: 1, timeSeconds: 1, failing: [{ of: 'o', name: 'n', message: 'm' }] },
  usage: { sandboxSeconds: 1, cost: { micros: 1, currency: 'c' } }, metadata: { some: 'm' }, tenant: 't',
}
const status: JobStatus = {
  jobId: 'j', repository: 'r', tenant: 't', state: 'failed', reason: 'w', phase: 'p', provider: 'p', sandboxId: 's', step: 's', attempts: 1, checkpointSha: 'c', checkpointProblem: 'c', unsaved: [], unsavedMore: 0,
  enqueuedAtMs: 1_767_225_500_000, startedAtMs: 1_767_225_600_000, endedAtMs: 1_767_225_700_000, result, cost: { micros: 1, currency: 'c' },
}
const view: JobView = {
  atMs: 1_767_225_800_000, status, run: 2, consumer: 'c', attempts: result.attempts, stepResults: result.steps, steps: ['n', 'n2'], promoteTo: 'p', output: 'o', outputCut: true,
  milestones: [['step', 0, 10, 'n', 1], ['wait', 10, 20, 'w', null], ['saved', 20, 30, 's', 2], ['taken', 30, 30, 'c', null], ['phase', 30, 40, 'x', null], ['more', 40, 40, '', 7], ['other', 50, 50, 'o', null]],
}
const fleet: Fleet = {
  atMs: 1_767_225_800_000, queue: 'q', paused: true, counts: { inHand: 1, waiting: 5, delayed: 1, succeeded: 1, failed: 1 },
  providers: [{ provider: 'p', limit: 5, effectiveLimit: 3, drained: null, limited: 'l', foreign: 1, used: 3, waiting: 1, cpu: 1, cpuLimit: 2, memoryMiB: 1, memoryMiBLimit: 2, breaker: 'open', openUntilMs: 1_767_225_900_000, openedBy: 'd', blockedUntilMs: 1, startP50Ms: 1, startP95Ms: 2 }, { provider: 'd', limit: 5, effectiveLimit: 5, drained: 'd', limited: null, foreign: 0, used: 0, waiting: 0, cpu: 1, cpuLimit: null, memoryMiB: 1, memoryMiBLimit: null, breaker: 'closed', openUntilMs: null, openedBy: null, blockedUntilMs: null, startP50Ms: null, startP95Ms: null }],
  consumers: [{ consumer: 'c', queue: 'q', release: 'r', providers: ['p'], jobs: 1, maxJobs: 2, full: true, draining: true, startedAtMs: 1, troubles: [{ of: 'o', message: 'm', sinceMs: 1 }] }], consumersMore: 3,
  waiting: { looked: 1, reasons: [{ reason: 'r', jobs: 1 }, { reason: null, jobs: 1 }], next: [{ jobId: 'j', repository: 'r', tenant: 't', enqueuedAtMs: 1, reason: 'r' }] },
  tenants: [{ tenant: 't', running: 1, cap: 2, weight: 1 }], tenantsMore: 1_234,
  running: [{ jobId: 'j', repository: 'r', tenant: 't', phase: 'steps', provider: 'p', step: 's', attempt: 2, reason: null, consumer: 'c', startedAtMs: 1, enqueuedAtMs: 1, cost: { micros: 1, currency: 'c' }, lastLine: 'l' }], runningMore: 9,
  ended: [{ jobId: 'j', repository: 'r', status: 'failed', reason: 'r', endedAtMs: 1 }],
}
const links = new Links({ commitUrl: 'https://git.example/{repository}/commit/{sha}', branchUrl: 'https://git.example/{repository}/tree/{branch}', compareUrl: 'https://git.example/{repository}/compare/{base}...{sha}' })
const place = { base: '/ops', writable: true, token: 'the-token' }
const pageOf = (text: string) => [
  `<!doctype html>${markup(FleetPage({ ...place, parts: fleetParts(withTexts(fleet, text, fixed), place), queue: text, live: '/ops/fleet/live' }))}`,
  `<!doctype html>${markup(JobPage({ ...place, links, view: withTexts(view, text, fixed), said: null, live: null }))}`,
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
      for (const element of elementsOf(html, '[href],[src],[action],[data-live]')) {
        const address = element.getAttribute('href') ?? element.getAttribute('src') ?? element.getAttribute('action') ?? element.getAttribute('data-live') ?? ''
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
      expect(JSON.stringify(name) + JSON.stringify(digestOf(withTexts(status, text, fixed), links))).not.toMatch(/[\u202e\u2028\u001b\u0085]|\\u001b|\\ud800/)
      expect(JSON.stringify(digestOf(withTexts(status, text, fixed), links)).length).toBeLessThan(12_000)
    }
    expect(nameOf({ name: 'acme/web', data: { spec: { steps: [{ name: 'agent' }] } }, progress: { step: '1/2 agent', provider: 'e2b' } })).toBe('acme/web · agent · 1/2 agent at e2b')
    expect(nameOf({ name: 'acme/web', data: { spec: { steps: [{ name: 'agent' }] } }, finishedOn: 1, failedReason: 'failed: exit 1' })).toBe('acme/web · agent · failed: exit 1')
    expect(nameOf({ name: 'acme/web', data: 5, finishedOn: 1, returnvalue: { status: 'succeeded' } })).toBe('acme/web · succeeded')
    expect(digestOf(status, links)).toMatchObject({ status: 'failed', exitCode: 1, stderr: ['e'], attempts: ['1. p: lost (m)'], branch: 'br', commitUrl: 'https://git.example/r/commit/co', diff: '2 files, +1 −1', promoted: 't (created)', waiting: 'w' })
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
