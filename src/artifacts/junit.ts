import sax from 'sax'
import type { TestSummary } from '../job/artifacts.js'
import { harmlessLine } from '../job/harmless-text.js'

/**
 * Sums up JUnit reports. They are written by the job, so they are read as a stream, within bounds: a file up to `maxReportBytes`, elements
 * nested a hundred deep, names cut. One with a DOCTYPE is none: no entity is expanded and nothing is fetched. What is not well-formed is none either.
 */

/** Larger files are not looked at. */
export const maxReportBytes = 16 * 1024 * 1024
/** Once so much of one job's XML was looked at, no more is. */
export const maxReportsBytes = 64 * 1024 * 1024

const mostFailing = 20
const mostNested = 100
const longestName = 200
/** Texts are given in parts from here on, and no attribute may be longer. */
const longestPiece = 1024 * 1024
const mostCounted = 1e9
/** References to no character, or to none that is known: each is an error to the library, which takes its time for it. */
const mostOddReferences = 1_000

// The library has one for all parsers.
Object.assign(sax, { MAX_BUFFER_LENGTH: longestPiece })

type Sums = Omit<TestSummary, 'failing'> & { failing: TestSummary['failing'] }

/** Reads one report as its pieces come. */
export class JUnitReader {
  readonly #parser = sax.parser(true)
  readonly #decoder = new TextDecoder('utf-8', { fatal: true })
  readonly #found: Sums = { reports: 1, tests: 0, failures: 0, errors: 0, skipped: 0, timeSeconds: 0, failing: [] }
  #wrong = false
  #oddReferences = 0
  #depth = 0
  #begun = false
  /** The test under way, and what became of it. */
  #test: { of: string; name: string; outcome: 'failures' | 'errors' | 'skipped' | null; message: string } | undefined
  #suites: string[] = []
  /** What the outermost suites say themselves, for reports without tests. */
  #said: Pick<Sums, 'tests' | 'failures' | 'errors' | 'skipped' | 'timeSeconds'> = { tests: 0, failures: 0, errors: 0, skipped: 0, timeSeconds: 0 }
  #saidAt: number | undefined
  #takesText = false

  constructor() {
    const parser = this.#parser
    parser.onerror = ({ message }) => {
      // References to characters that XML has no place for are common in what tests print, and stay as they are written.
      if (message.startsWith('Invalid character entity') && ++this.#oddReferences <= mostOddReferences) parser.resume()
      // The parser would read on to the end of the piece, with an error for each character.
      else throw new Error(message)
    }
    parser.ondoctype = () => this.#giveUp()
    parser.onopentag = ({ name, attributes }) => this.#open(name.slice(name.lastIndexOf(':') + 1), attributes as Record<string, string>)
    parser.onclosetag = (name) => this.#close(name.slice(name.lastIndexOf(':') + 1))
    parser.ontext = (text) => this.#text(text)
    parser.oncdata = (text) => this.#text(text)
  }

  add(piece: Buffer): void {
    if (this.#wrong) return
    try {
      this.#parser.write(this.#decoder.decode(piece, { stream: true }))
    } catch {
      // No UTF-8, or no XML.
      this.#giveUp()
    }
  }

  /** @returns null when it was no JUnit report. */
  end(): TestSummary | null {
    if (!this.#wrong) {
      try {
        this.#parser.write(this.#decoder.decode()).close()
      } catch {
        this.#giveUp()
      }
    }
    if (this.#wrong || !this.#begun) return null
    return this.#found.tests === 0 ? { ...this.#found, ...this.#said } : this.#found
  }

  #giveUp(): void {
    this.#wrong = true
  }

  #open(name: string, attributes: Readonly<Record<string, string>>): void {
    if (this.#wrong) return
    this.#depth++
    if (this.#depth > mostNested) { this.#giveUp(); return; }
    if (this.#depth === 1) {
      if (name !== 'testsuites' && name !== 'testsuite') { this.#giveUp(); return; }
      this.#begun = true
    }
    if (name === 'testsuite' || name === 'testsuites') {
      this.#suites.push(attributes['name'] ?? '')
      if (this.#saidAt === undefined && attributes['tests'] !== undefined) {
        this.#saidAt = this.#depth
        const said = this.#said
        for (const field of ['tests', 'failures', 'errors', 'skipped'] as const) said[field] = bounded(said[field] + Math.floor(numberIn(attributes[field])))
        said.timeSeconds = bounded(said.timeSeconds + numberIn(attributes['time']))
      }
    } else if (name === 'testcase') {
      const of = attributes['classname'] ?? attributes['file'] ?? this.#suites.findLast((suite) => suite !== '') ?? ''
      this.#test = { of, name: attributes['name'] ?? '', outcome: null, message: '' }
      this.#found.tests = bounded(this.#found.tests + 1)
      this.#found.timeSeconds = bounded(this.#found.timeSeconds + numberIn(attributes['time']))
    } else if (this.#test !== undefined && this.#test.outcome === null && (name === 'failure' || name === 'error' || name === 'skipped')) {
      this.#test.outcome = name === 'failure' ? 'failures' : name === 'error' ? 'errors' : 'skipped'
      this.#test.message = (attributes['message'] ?? '').slice(0, 4 * longestName)
      this.#takesText = this.#test.message === ''
    }
  }

  #text(text: string): void {
    if (!this.#takesText || this.#test === undefined || this.#test.message.length > 4 * longestName) return
    this.#test.message = `${this.#test.message}${text.slice(0, 4 * longestName)}`.trimStart()
  }

  #close(name: string): void {
    if (this.#wrong) return
    this.#takesText = false
    if (this.#saidAt === this.#depth) this.#saidAt = undefined
    this.#depth--
    if (name === 'testsuite' || name === 'testsuites') this.#suites.pop()
    if (name !== 'testcase' || this.#test === undefined) return
    const { of, name: test, outcome, message } = this.#test
    this.#test = undefined
    if (outcome === null) return
    this.#found[outcome] = bounded(this.#found[outcome] + 1)
    if (outcome === 'skipped' || this.#found.failing.length >= mostFailing) return
    this.#found.failing.push({ of: shown(of), name: shown(test), message: shown(message.trim().split('\n')[0] ?? '') })
  }
}

/** Sums of sums. */
export function addedUp(one: TestSummary | null, other: TestSummary | null): TestSummary | null {
  if (one === null || other === null) return one ?? other
  return {
    reports: one.reports + other.reports,
    tests: bounded(one.tests + other.tests),
    failures: bounded(one.failures + other.failures),
    errors: bounded(one.errors + other.errors),
    skipped: bounded(one.skipped + other.skipped),
    timeSeconds: bounded(Math.round((one.timeSeconds + other.timeSeconds) * 1000) / 1000),
    failing: [...one.failing, ...other.failing].slice(0, mostFailing),
  }
}

const bounded = (amount: number) => Math.min(amount, mostCounted)

/** A number as reports write it, `1,234.5` too; what is none is 0. */
function numberIn(text: string | undefined): number {
  if (text === undefined || text.length > 30) return 0
  const amount = Number(text.replaceAll(',', ''))
  return Number.isFinite(amount) && amount > 0 ? amount : 0
}

function shown(text: string): string {
  const line = harmlessLine(text.slice(0, 4 * longestName))
  return line.length > longestName ? `${line.slice(0, longestName)}…` : line
}
