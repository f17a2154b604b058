import { expect, it } from 'vitest'
import { addedUp, JUnitReader } from '../../src/artifacts/junit.js'
import type { TestSummary } from '../../src/job/artifacts.js'

function read(xml: string | Buffer, pieceBytes = 7): TestSummary | null {
  const reader = new JUnitReader()
  const bytes = Buffer.from(xml)
  for (let at = 0; at < bytes.length; at += pieceBytes) reader.add(bytes.subarray(at, at + pieceBytes))
  return reader.end()
}

const sums = (xml: string | Buffer) => {
  const found = read(xml)
  return found === null ? null : [found.tests, found.failures, found.errors, found.skipped, found.timeSeconds]
}

it('sums up what the usual runners write', () => {
  const pytest = `<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="4" time="0.123" timestamp="2026-01-01T00:00:00">
    <testcase classname="tests.test_a" name="test_ok" time="0.001" /><testcase classname="tests.test_a" name="test_ü" time="0.5"><failure message="assert 1 == 2">def test(): ...</failure></testcase>
    <testcase classname="tests.test_a" name="test_gone" time="0"><error message="fixture 'x' not found">…</error></testcase><testcase classname="tests.test_b" name="test_later" time="0"><skipped type="pytest.skip" message="later"/></testcase></testsuite></testsuites>`
  expect(read(pytest)).toEqual({
    reports: 1, tests: 4, failures: 1, errors: 1, skipped: 1, timeSeconds: 0.501,
    failing: [{ of: 'tests.test_a', name: 'test_ü', message: 'assert 1 == 2' }, { of: 'tests.test_a', name: 'test_gone', message: "fixture 'x' not found" }],
  })
  // Nested suites (Jest, Gradle), one suite alone, text in place of a message, a namespace.
  expect(read('<testsuite name="outer"><testsuite name="inner"><testcase name="a" time="1,234.5"><failure><![CDATA[\n  Error: no\n  at x]]></failure></testcase></testsuite></testsuite>')).toMatchObject({ tests: 1, failures: 1, timeSeconds: 1234.5, failing: [{ of: 'inner', name: 'a', message: 'Error: no' }] })
  expect(sums('<j:testsuite xmlns:j="urn:x"><j:testcase name="a"/></j:testsuite>')).toEqual([1, 0, 0, 0, 0])
  // A report that only says its sums.
  expect(sums('<testsuites><testsuite tests="3" failures="1" errors="0" skipped="1" time="2.5"/><testsuite tests="2"><testsuite tests="2"/></testsuite></testsuites>')).toEqual([5, 1, 0, 1, 2.5])
  // A test that failed twice, and that was run again, counts once each.
  expect(sums('<testsuite><testcase name="a"><failure/><error/></testcase></testsuite>')).toEqual([1, 1, 0, 0, 0])
})

it.each<readonly [string, string | Buffer]>([
  ['another XML', '<coverage><testsuite/></coverage>'],
  ['none', 'no xml at all'],
  ['empty', ''],
  ['cut', '<testsuite><testcase name="a">'],
  ['no UTF-8', Buffer.from([0x3c, 0x74, 0xff, 0xfe])],
  ['an entity of its own', '<!DOCTYPE t [<!ENTITY a "aaaa">]><testsuite><testcase name="&a;"/></testsuite>'],
  ['entities by the billion', `<!DOCTYPE t [<!ENTITY a "ha">${Array.from({ length: 20 }, (_, index) => `<!ENTITY a${index} "&a${index - 1};&a${index - 1};">`).join('')}]><testsuite name="&a19;"/>`],
  ['a file of the machine', '<!DOCTYPE t [<!ENTITY a SYSTEM "file:///etc/passwd">]><testsuite><testcase name="a"><failure>&a;</failure></testcase></testsuite>'],
  ['too deep', `<testsuite>${'<a>'.repeat(10_000)}`],
])('takes %s for no report', (_what, xml) => {
  expect(read(xml)).toBeNull()
})

it('bounds what a report can say, and makes it harmless', () => {
  const many = read(`<testsuite>${'<testcase name="a"><failure message="b"/></testcase>'.repeat(30)}</testsuite>`, 1000)
  expect(many).toMatchObject({ tests: 30, failures: 30 })
  expect(many?.failing).toHaveLength(20)
  const odd = read(`<testsuite><testcase name="&#x1b;]0;title&#x7;x&#10;y\u202e" classname="${'c'.repeat(5000)}" time="-5"><failure message="${'m'.repeat(100_000)}"/></testcase><testcase name="__proto__" time="1e999"/><testcase time="NaN"/></testsuite>`, 4096)
  expect(odd).toMatchObject({ tests: 3, timeSeconds: 0 })
  const { of = '', name = '', message = '' } = odd?.failing[0] ?? {}
  expect([of.length, message.length]).toEqual([201, 201])
  expect(name).not.toMatch(/[\p{Cc}\u202e]/u)
  // What a report says of itself is bounded too.
  expect(sums('<testsuite tests="1e300" failures="99999999999999999999" time="-1"/>')).toEqual([1e9, 1e9, 0, 0, 0])
})

it('adds reports up', () => {
  const one = read('<testsuite><testcase name="a" time="0.1"/></testsuite>')
  expect(addedUp(addedUp(null, one), one)).toMatchObject({ reports: 2, tests: 2, timeSeconds: 0.2 })
  expect(addedUp(null, null)).toBeNull()
})

// Each reference is an error to the library, and what comes behind it too: a quarter of an hour for what a job may have looked at.
it('gives a report up that is made of errors', () => {
  for (const unit of ['&;', '&#0;', '&nothing;']) {
    expect(sums(`<testsuite><testcase name="a">${unit.repeat(500)}</testcase></testsuite>`)).toEqual([1, 0, 0, 0, 0])
    const long = new JUnitReader()
    for (const piece of ['<testsuite><testcase name="a">', ...Array<string>(64).fill(unit.repeat(100_000)), '</testcase></testsuite>']) long.add(Buffer.from(piece))
    expect(long.end()).toBeNull()
  }
})
