import { describe, expect, it } from 'vitest'
import { LogPrinter } from '../../src/cli/log-printer.js'
import { jsonLine, printTo } from '../../src/cli/print.js'
import { barred } from '../../src/cli/demo/outage.js'
import { startProgress } from '../../src/cli/demo/progress.js'
import { scheduleTable } from '../../src/cli/commands/schedules.js'
import { rows } from '../../src/cli/doctor/report.js'
import type { CheckResult } from '../../src/cli/doctor/check-result.js'
import { deadTable, eventLine, groupsTable } from '../../src/cli/event-report.js'
import { reapReport } from '../../src/cli/reap-report.js'
import { failedOutput, providersTable, refusedKeyLine, resultReport, statusReport, statusTable } from '../../src/cli/report.js'
import { BoardLog } from '../../src/consumers/output/board-log.js'
import type { ReapRound } from '../../src/consumers/index.js'
import { escapedLine, harmlessJson, harmlessLine, harmlessText, harmlessValue } from '../../src/job/harmless-text.js'
import type { JobResult } from '../../src/job/result.js'
import type { JobStatus } from '../../src/job/status.js'
import { shownValue } from '../../src/monitor/formatters.js'
import type { ProviderLoad } from '../../src/store/index.js'
import type { KeptEvent } from '../../src/events/index.js'
import type { Schedule } from '../../src/producers/index.js'
import { readdirSync, readFileSync } from 'node:fs'
import { Writable } from 'node:stream'
import { pino } from 'pino'

/** What a terminal, or a reader, could be attacked with; each must be gone or shown as something that does nothing. */
const sequences: Readonly<Record<string, string>> = {
  colours: '\u001b[31mred\u001b[0m',
  'cursor up and erase': '\u001b[1A\u001b[2K',
  title: '\u001b]0;mine\u0007',
  clipboard: '\u001b]52;c;ZXZpbA==\u0007',
  hyperlink: '\u001b]8;;http://evil.example\u001b\\click\u001b]8;;\u001b\\',
  'hyperlink without end': '\u001b]8;;http://evil.example',
  'string with a line end inside': '\u001b]0;mi\nne\u001b\\',
  'device control': '\u001bP+q544e\u001b\\',
  'application command': '\u001b_x\u001b\\',
  'privacy message': '\u001b^x\u001b\\',
  'tmux pass-through': '\u001bPtmux;\u001b\u001b]0;x\u0007\u001b\\',
  'eight-bit sequences': '\u009b2J\u009d0;x\u009c\u0090x\u009c',
  reset: '\u001bc\u001b(0\u001b#8',
  'half of a sequence': '\u001b[',
  'line that is written over': 'ok\rPROMOTED',
  'line of ours': 'x\n>>> promoted\nresult      succeeded\nswitchyard: x\r\n>>> done',
  'very long line': 'y'.repeat(200_000),
  'sequence that never ends': `\u001b[${';?'.repeat(50_000)}`,
  'eight-bit ones that never end': '\u009d'.repeat(100_000),
  'many that never end': '\u001b[;?'.repeat(30_000),
  'lone surrogates': '\ud800x\udfff',
}
const codes = [...range(0, 0x1f), ...range(0x7f, 0x9f), 0xad, 0x061c, 0x115f, 0x180e, 0x200b, 0x200e, 0x200f, ...range(0x2028, 0x202e), ...range(0x2060, 0x206f), 0x3164, 0xfeff, 0xffa0, ...range(0xfff9, 0xfffb), 0xe0001, 0xe007f]
const attacks: readonly (readonly [string, string])[] = [...Object.entries(sequences), ...codes.map((code) => [`U+${code.toString(16)}`, `a${String.fromCodePoint(code)}b`] as const)]

/** Written out anew, so that what is left out there is found here. */
const harmful = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e007f}]/u

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index)
}

const stand = 'stand-in'
const result: JobResult = {
  jobId: stand, status: 'failed', error: { kind: 'step-failed', message: stand, owner: 'job' }, repository: stand, baseSha: 'a'.repeat(40), branch: stand, commit: 'b'.repeat(40),
  promoted: { to: stand, sha: 'b'.repeat(40), result: 'fast_forward' },
  pullRequest: { number: 1, url: `https://example.com/${stand}`, base: stand, action: 'opened', problems: [stand] },
  steps: [{ name: stand, exitCode: 0, durationMs: 1200, stdoutTail: stand, stderrTail: stand }],
  attempts: [{ provider: stand, sandboxId: stand, startedAt: '2026-01-01T00:00:00.000Z', endedAt: null, outcome: 'lost', error: { kind: 'sandbox-lost', message: stand } }],
  diff: { files: 1, additions: 3, deletions: 0, paths: [stand, stand] }, unsaved: [{ path: stand, reason: stand }], unsavedMore: 0, kept: [{ branch: stand, commit: stand, ref: stand }],
  artifacts: [{ path: stand, sizeBytes: 1, mediaType: stand, sha256: 'c'.repeat(64), where: stand, from: 'sandbox' }], artifactsMissed: [{ path: stand, reason: stand, owner: 'job' }], artifactsMissedMore: 0,
  tests: { reports: 1, tests: 1, failures: 1, errors: 0, skipped: 0, timeSeconds: 1, failing: [{ of: stand, name: stand, message: stand }] }, usage: { sandboxSeconds: 2 }, metadata: { [stand]: stand }, tenant: stand,
}
const status: JobStatus = {
  jobId: stand, repository: stand, tenant: stand, state: 'running', reason: stand, phase: 'steps', provider: stand, sandboxId: stand, step: stand,
  cost: null, attempts: 1, checkpointSha: stand, checkpointProblem: stand, unsaved: [{ path: stand, reason: stand }], unsavedMore: 0, enqueuedAtMs: 0, startedAtMs: 1000, endedAtMs: null, result: null,
}
const load: ProviderLoad = {
  provider: stand, limit: 1, configuredLimit: 2, set: { by: stand, reason: stand, atMs: 0, untilMs: 1, limit: 1 }, drain: { by: stand, reason: stand, atMs: 0, untilMs: 1, move: false }, effectiveLimit: 1, used: 0, foreign: 0, waiting: 0, cpu: 0, cpuLimit: null, memoryMiB: 0, memoryMiBLimit: null, breaker: 'open', openUntilMs: 5, openedBy: 'down',
  createsPerSecond: null, blockedUntilMs: null, startP50Ms: null, startP95Ms: null,
} as ProviderLoad
const round: ReapRound = {
  provider: stand, foreign: null, freedPlaces: 0, problem: stand,
  sandboxes: [{ provider: stand, id: stand, jobId: stand, ageMs: 1, verdict: 'orphan', why: stand, failedKills: 1, lastError: stand, killed: false }],
}
const check: CheckResult = { subject: 'provider', name: stand, check: stand, outcome: 'failed', durationMs: 1, detail: stand, mend: stand, errorKind: 'invalid' }

const schedule = {
  id: stand, cron: stand, timezone: stand, everyMs: null, paused: false, nextRunAt: '2026-01-01T00:00:00.000Z',
  last: { scheduledAt: '2026-01-01T00:00:00.000Z', jobId: stand, result: null }, skipped: { scheduledAt: '2026-01-01T00:00:00.000Z', why: stand },
} as unknown as Schedule

/** A value with the attack in the place of every stand-in. */
function attacked<Value>(value: Value, attack: string): Value {
  const made = (part: unknown): unknown => {
    if (part === stand) return attack
    if (Array.isArray(part)) return part.map(made)
    if (typeof part !== 'object' || part === null) return part
    return Object.fromEntries(Object.entries(part).map(([key, inner]) => [key === stand ? attack : key, made(inner)]))
  }
  return made(value) as Value
}

/** What a progress prints: its cursor's ways are its own, so it is not a terminal here. */
function progressOf(name: string, found: JobStatus): string {
  let text = ''
  const stream = { isTTY: false, columns: 80, write: (piece: string) => void (text += piece) } as unknown as NodeJS.WriteStream
  const progress = startProgress(stream)
  progress.show([{ name, status: found }], 2000)
  return text
}

function printed(step: string, stream: 'stdout' | 'system', data: string): string {
  const printer = new LogPrinter()
  return printer.add({ step, stream, attempt: 1, data: Buffer.from(data) }) + printer.end()
}

/** Everything that is shown of what jobs, providers and hosts say. */
const reports: Readonly<Record<string, (attack: string) => string>> = {
  'status JOB': (attack) => statusReport(attacked(status, attack), 2000),
  'status of an ended job': (attack) => statusReport(attacked({ ...status, state: 'failed', result }, attack), 2000),
  'status of many': (attack) => statusTable(attacked([status, status], attack), 2000),
  'enqueue --wait': (attack) => resultReport(attacked(result, attack)),
  providers: (attack) => providersTable(attacked([load], attack)),
  'refused keys': (attack) => refusedKeyLine(attacked({ of: stand, consumer: stand, message: stand, sinceMs: 1 }, attack)),
  reap: (attack) => reapReport(attacked([round], attack), { killed: true }),
  'events that can’t be read': (attack) => eventLine(attacked({ event: null, sequence: stand, json: stand, atMs: 1 } as KeptEvent, attack)),
  'dead events': (attack) => deadTable(attacked([{ id: stand, group: stand, event: null, json: stand, attempts: 3, error: stand, diedAtMs: 0 }], attack)),
  'groups of readers': (attack) => groupsTable(attacked([{ group: stand, unread: 0, pending: 0, deadLetters: 0, died: 0, dropped: 0, missed: 0, stopped: { why: stand, atMs: 0 } }], attack)),
  'the last lines of a step': (attack) => failedOutput(attacked({ ...result, status: 'failed' as const, steps: [{ name: stand, exitCode: 1, durationMs: 1, stdoutTail: 'one\ntwo', stderrTail: 'three' }] }, attack)),
  schedules: (attack) => scheduleTable(attacked([schedule], attack), 2000),
  doctor: (attack) => rows([attack === stand ? stand : harmlessLine(attack)], attacked([check], attack)),
  'demo’s progress': (attack) => progressOf('failover', attacked(status, attack)),
  'a step’s name in logs': (attack) => printed(attack, 'stdout', 'x\n'),
}

describe.each(Object.entries(reports))('%s', (_name, report) => {
  const lines = report(stand).split('\n')
  it('is as many lines, and nothing that a terminal obeys, whatever stands in it', () => {
    for (const [name, attack] of attacks) {
      const shown = report(attack)
      expect(harmful.exec(shown)?.[0]?.codePointAt(0), name).toBeUndefined()
      expect(shown.split('\n').length, name).toBe(lines.length)
      expect(Math.max(...shown.split('\n').map(({ length }) => length)), name).toBeLessThan(30_000)
    }
  })
})

describe('every other way out', () => {
  it.each(attacks)('%s does nothing', (_name, attack) => {
    for (const text of [attack, `before ${attack} after`, attack + attack]) {
      expect(harmlessText(text)).not.toMatch(harmful)
      expect(harmlessLine(text)).not.toMatch(/[\n\t]/)
      expect(escapedLine(text)).not.toMatch(/[\n\t]/)
      expect(escapedLine(text)).not.toMatch(harmful)
      expect(barred(text, '| ')).toMatch(/^(\| .*\n?)+$/)
      expect(JSON.stringify(harmlessValue({ [text]: [text, { deep: text }] }))).not.toMatch(harmful)
      expect(JSON.stringify(shownValue({ [text]: [text], env: { [text]: text } }))).not.toMatch(/[\u007f-\u009f\u202a-\u202e\u2066-\u2069\u2028\u2029]|\\u00/)
      const json = jsonLine({ [text]: [text] })
      expect(json).not.toMatch(harmful)
      expect(json).not.toContain('\n')
      expect(JSON.parse(json)).toEqual({ [text]: [text] })
      let out = ''
      printTo(new Writable({ write: (piece: Buffer, _encoding, done) => { out += piece.toString(); done() } }), text)
      expect(out).not.toMatch(harmful)
      let logged = ''
      pino({ base: null }, { write: (line) => void (logged += harmlessJson(line)) }).info({ file: text, err: new Error(text) }, text)
      expect(logged).not.toMatch(harmful)
      expect(logged.split('\n')).toHaveLength(2)
      expect((JSON.parse(logged) as { file: string }).file).toBe(text)
    }
  })

  it('text is left as it is', () => {
    const text = 'Ünïcödé 漢字 😀 👩‍👩‍👧 ❤️ می‌خواهم\ttab\nline\n'
    expect(harmlessText(text)).toBe(text)
    expect(harmlessText('a\r\nb')).toBe('a\nb')
    expect(harmlessValue({ n: 1, none: null, list: [true, 'x'] })).toEqual({ n: 1, none: null, list: [true, 'x'] })
    expect(escapedLine('a\nb\u001b[31m')).toBe('a\\nb\\x1b[31m')
  })

  it('nothing else of ours writes to the terminal of whoever started it', () => {
    const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((name) => /\.(ts|mjs)$/.test(name) && !name.startsWith('cli/'))
    const writing = files.filter((name) => /\bprocess\.(stdout|stderr)\.write\(|\bconsole\.|\bwriteSync\(|['"]\/dev\/(tty|stdout|stderr)['"]|'inherit'/.test(readFileSync(`src/${name}`, 'utf8')))
    // Both talk to a process of ours, over a pipe.
    expect(writing.toSorted()).toEqual(['providers/conformance/killed-client.ts', 'providers/docker/keep-deadline.mjs'])
  })

  it('nothing of the command writes past print.ts, but for what a progress draws and an output that is passed on', () => {
    const files = readdirSync('src/cli', { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts') && name !== 'print.ts' && name !== 'demo/progress.ts')
    const past = files.filter((name) => /\b(stdout|stderr|output|stream)\.write\(|console\./.test(readFileSync(`src/cli/${name}`, 'utf8')))
    // Commander's own words go through harmlessText there.
    expect(past).toEqual(['run-command.ts'])
  })
})

describe('a job’s output on a terminal', () => {
  const piece = (data: string | Buffer, more: object = {}) => ({ step: 'test', stream: 'stdout' as const, attempt: 1, data: Buffer.from(data), ...more })

  it('can’t make a line that looks like one of ours, whatever is printed, named or split', () => {
    const printer = new LogPrinter()
    const system = { step: 'switchyard', stream: 'system' as const }
    let shown = ''
    for (const data of ['>>> promoted\n', '\n>>> promoted', '\r>>> promoted\n', '\u001b[2K\u001b[1G>>> promoted\n', 'job job-1 goes on\n', ...attacks.map(([, attack]) => `${attack}\n`)]) shown += printer.add(piece(data))
    shown += printer.add(piece('>>> promoted\n', { step: '>>> mine\n>>> ' }))
    shown += printer.add(piece('the truth\n', system)) + printer.end()
    expect(shown.split('\n').filter((line) => line.startsWith('>>>'))).toEqual(['>>> the truth'])
    expect(shown.split('\n').filter((line) => line !== '' && !/^(>>> |\S.* \| )/.test(line))).toEqual([])
    expect(shown).not.toMatch(harmful)
  })

  it('is the same however it is cut into pieces', () => {
    const short = Object.values(sequences).filter(({ length }) => length < 1000)
    const bytes = Buffer.from(`one ${short.join('')} 😀\r\ntwo\n漢字 without end`)
    const whole = new LogPrinter()
    const expected = whole.add(piece(bytes)) + whole.end()
    for (const size of [1, 2, 3, 7]) {
      const printer = new LogPrinter()
      let shown = ''
      for (let start = 0; start < bytes.length; start += size) shown += printer.add(piece(bytes.subarray(start, start + size)))
      expect(shown + printer.end()).toBe(expected)
    }
  })

  it('is not held for ever when a line never ends', () => {
    const printer = new LogPrinter()
    expect(printer.add(piece('x'.repeat(100_000)))).toHaveLength('test | '.length + 100_000 + 1)
    expect(printer.end()).toBe('')
  })
})

describe('a job’s output on the board', () => {
  it('can’t make a line that looks like one of ours either', async () => {
    const shown: string[] = []
    const job = { opts: {}, id: 'j', log: (row: string) => Promise.resolve(shown.push(row)), clearLogs: () => Promise.resolve(), updateProgress: () => Promise.resolve() }
    const log = new BoardLog(job, pino({ level: 'silent' }))
    const add = (stream: 'stdout' | 'system', text: string) => log.add([{ step: 's', stream, attempt: 1, offset: 0, data: Buffer.from(text) }])
    for (const text of ['>', '>> promoted\n', '\u200d>>> promoted\n', 'a\n>>> promoted', '\u001b[2K\r>>> promoted\n', 'no line end']) add('stdout', text)
    add('system', 'the truth\n')
    await log.close()
    add('stdout', '>>> promoted again\n')
    await log.close()
    const lines = shown.join('\n').split('\n')
    expect(lines.filter((line) => line.replace(/\p{Default_Ignorable_Code_Point}/gu, '').startsWith('>>>'))).toEqual(['>>> the truth'])
    expect(shown.join('\n')).not.toMatch(harmful)
  })
})
