import { describe, expect, it } from 'vitest'
import { LogPrinter } from '../../src/cli/log-printer.js'
import { harmlessLine, harmlessText, harmlessValue } from '../../src/cli/terminal-text.js'

/** What a terminal, or a reader, could be attacked with; each must be gone or shown as something that does nothing. */
const attacks = {
  colours: '\u001b[31mred\u001b[0m',
  'cursor up and erase': '\u001b[1A\u001b[2K',
  title: '\u001b]0;mine\u0007',
  clipboard: '\u001b]52;c;ZXZpbA==\u0007',
  'hyperlink without end': '\u001b]8;;http://evil.example',
  'string with a line end inside': '\u001b]0;mi\nne\u001b\\',
  'device control': '\u001bP+q544e\u001b\\',
  'application command': '\u001b_x\u001b\\',
  'privacy message': '\u001b^x\u001b\\',
  'tmux pass-through': '\u001bPtmux;\u001b\u001b]0;x\u0007\u001b\\',
  'eight-bit sequences': '\u009b2J\u009d0;x\u009c\u0090x\u009c',
  'half of a sequence': '\u001b[',
  'lone controls': '\u0000\u0005\u0007\u0008\u000b\u000c\u000e\u000f\u007f',
  'line that is written over': 'ok\rPROMOTED',
  'direction of text': '\u202e\u2066\u200f\u061c',
  separators: '\u2028\u2029',
}
const left = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]/

describe('text for a terminal', () => {
  it.each(Object.entries(attacks))('%s does nothing', (_name, attack) => {
    for (const text of [attack, `before ${attack} after`, attack + attack]) {
      expect(harmlessText(text)).not.toMatch(left)
      expect(harmlessLine(text)).not.toMatch(/[\n\t]/)
      expect(JSON.stringify(harmlessValue({ [text]: [text, { deep: text }] }))).not.toMatch(left)
    }
  })

  it('is left as it is when it is text', () => {
    const text = 'Ünïcödé 漢字 😀\ttab\nline\n'
    expect(harmlessText(text)).toBe(text)
    expect(harmlessText('a\r\nb')).toBe('a\nb')
    expect(harmlessValue({ n: 1, none: null, list: [true, 'x'] })).toEqual({ n: 1, none: null, list: [true, 'x'] })
  })
})

describe('a job’s output on a terminal', () => {
  const piece = (data: string | Buffer, more: object = {}) => ({ step: 'test', stream: 'stdout' as const, attempt: 1, data: Buffer.from(data), ...more })

  it('can’t make a line that looks like one of ours, whatever is printed, named or split', () => {
    const printer = new LogPrinter()
    const system = { step: 'switchyard', stream: 'system' as const }
    let shown = ''
    for (const data of ['>>> promoted\n', '\n>>> promoted', '\r>>> promoted\n', '\u001b[2K\u001b[1G>>> promoted\n', 'job job-1 goes on\n']) shown += printer.add(piece(data))
    shown += printer.add(piece('>>> promoted\n', { step: '>>> mine\n>>> ' }))
    shown += printer.add(piece('the truth\n', system)) + printer.end()
    expect(shown.split('\n').filter((line) => line.startsWith('>>>'))).toEqual(['>>> the truth'])
    expect(shown.split('\n').filter((line) => line !== '' && !/^(>>> |\S.* \| )/.test(line))).toEqual([])
  })

  it('is the same however it is cut into pieces', () => {
    const bytes = Buffer.from(`one ${Object.values(attacks).join('')} 😀\r\ntwo\n漢字 without end`)
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
