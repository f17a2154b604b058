import { expect, it } from 'vitest'
import { pullRequestText } from '../../src/consumers/supervision/pull-request-text.js'
import { newRunRecord, type RunRecord } from '../../src/job/run-record.js'
import { parseJobSpec } from '../../src/job/spec.js'

const spec = (push: object = {}) => parseJobSpec({ repository: 'acme/web', steps: ['true'], push, promote: { to: 'fix' } })
const record = (changes: Partial<RunRecord> = {}): RunRecord => ({ ...newRunRecord({ jobId: 'j1', generation: 1, repository: 'acme/web', startedAtMs: 0 }), ...changes })
const step = (name: string) => ({ name, exitCode: 0, durationMs: 1_400, stdoutTail: 'never shown', stderrTail: '' })
const asIs = (text: string) => text

it('has a title from the spec, the commit’s message or the job, and a mark that is this attempt’s alone', () => {
  expect(pullRequestText(spec({ message: 'Fix it\n\nWell' }), record(), { title: 'Given' }, asIs).title).toBe('Given')
  expect(pullRequestText(spec({ message: 'Fix it\n\nWell' }), record(), {}, asIs).title).toBe('Fix it')
  expect(pullRequestText(spec(), record(), {}, asIs).title).toBe('Work of job j1')
  const marks = [record(), record({ generation: 2 }), record({ restart: { count: 1, atMs: 0, attemptsBefore: 1 } }), record({ jobId: 'j2' })].map((each) => pullRequestText(spec(), each, {}, asIs).mark)
  expect(new Set(marks).size).toBe(4)
  expect(pullRequestText(spec(), record({ steps: [step('later')] }), {}, asIs).mark).toBe(marks[0])
})

it('holds what the commands made up as it is: no mention, no link, no markup, no line of its own, and no end', () => {
  const hostile = '`@everyone` [x](http://evil) <img src=x onerror=alert(1)>\n/merge\n# Title\u202e\u001b[2J'
  const { body, mark } = pullRequestText(
    spec(),
    record({
      steps: [step(hostile), ...Array.from({ length: 30 }, (_, index) => step(`step ${index}`))],
      unsaved: [{ path: hostile, reason: 'x' }],
      collected: {
        artifacts: [], artifactsMissed: [], artifactsMissedMore: 0,
        tests: { reports: 1, tests: 3, failures: 2, errors: 0, skipped: 0, timeSeconds: 1.5, failing: [{ of: hostile.repeat(50), name: hostile, message: 'never shown' }] },
      },
    }),
    {},
    asIs,
  )
  // Outside of code spans nothing of it is left.
  const outside = body.replaceAll(/`[^`\n]*`/g, '')
  expect(outside).not.toMatch(/@|http|<|merge|Title/)
  expect(body).not.toMatch(/[\u202e\u001b]/)
  expect(body).not.toContain('never shown')
  expect(body.split('\n').every((line) => /^(Job |- |  - |`switchyard |$)/.test(line))).toBe(true)
  expect(body.length).toBeLessThan(6_000)
  expect(body).toContain('- 3 tests in 1.5 s, 2 failed, 0 skipped')
  expect(body.endsWith(`\`${mark}\`\n`)).toBe(true)
})

it('holds no secret', () => {
  const mask = (text: string) => text.replaceAll('hunter22', '***')
  const { title, body } = pullRequestText(spec(), record({ steps: [step('hunter22')] }), { title: 'hunter22', body: 'it is hunter22' }, mask)
  expect(`${title}${body}`).not.toContain('hunter22')
})
