import { describe, expect, it } from 'vitest'
import { fold } from '../../src/consumers/output/folding.js'
import { openCharacter, StreamRedactor } from '../../src/consumers/output/redaction.js'
import { SecretPatterns } from '../../src/consumers/output/secret-patterns.js'
import fc from '../seeded-fast-check.js'
import { tries } from '../whole.js'

function redactInPieces(secrets: string[], bytes: Buffer, cuts: number[]): { whole: Buffer; mostHeld: number } {
  const patterns = new SecretPatterns()
  secrets.forEach((secret) => patterns.add(secret))
  const redactor = new StreamRedactor(patterns)
  const out: Buffer[] = []
  let mostHeld = 0
  let start = 0
  for (const cut of [...cuts.toSorted((a, b) => a - b), bytes.length]) {
    out.push(redactor.push(bytes.subarray(start, cut)))
    mostHeld = Math.max(mostHeld, redactor.heldBytes)
    start = cut
  }
  out.push(redactor.flush())
  return { whole: Buffer.concat(out), mostHeld }
}

describe('a stream’s redactor', () => {
  it('masks a secret wherever the stream is cut, and keeps every other byte and every offset', () => {
    const text = Buffer.from('before s3cr3t-value after\nline two s3cr3t-values3cr3t-value\n')
    for (let cut = 0; cut <= text.length; cut++) {
      const { whole } = redactInPieces(['s3cr3t-value'], text, [cut])
      expect(whole.toString()).toBe('before ************ after\nline two ************************\n')
    }
  })

  it('masks a secret that comes byte by byte', () => {
    const text = Buffer.from('xxabcdefghijabcdefghijklmnopyy')
    const { whole } = redactInPieces(['abcdefghijklmnop', 'ijabcdefgh'], text, [...text.keys()])
    expect(whole.toString()).toBe('xxabcdefgh******************yy')
  })

  it('masks secrets over several lines, and in the encodings in which tools print them', () => {
    const secret = 'first line\nsecond "line"'
    const printed = [secret, JSON.stringify(secret), encodeURIComponent(secret), Buffer.from(secret).toString('base64')].join(' | ')
    const { whole } = redactInPieces([secret], Buffer.from(printed), [5, 20, 60])
    expect(whole.toString()).not.toMatch(/second|c2Vjb25k/)
  })

  it('masks both of two overlapping secrets, for every cut of random streams', () => {
    const letter = fc.constantFrom('a', 'b')
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: letter, minLength: 8, maxLength: 11 }), { minLength: 1, maxLength: 3 }),
        fc.string({ unit: fc.constantFrom('a', 'b', 'b', 'a', '\n', ' ', 'c'), minLength: 60, maxLength: 60 }),
        fc.array(fc.nat(60), { maxLength: 8 }),
        (secrets, text, cuts) => {
          const whole = redactInPieces(secrets, Buffer.from(text), []).whole.toString()
          const cut = redactInPieces(secrets, Buffer.from(text), cuts).whole.toString()
          expect(cut).toBe(whole)
          expect(cut.length).toBe(text.length)
          for (const secret of secrets) expect(cut).not.toContain(secret)
        },
      ),
      { numRuns: tries(2_000) },
    )
  })

  it('masks each of many that begin alike, also within one another, and nothing else', () => {
    const letters = (most: number) => fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: most })
    fc.assert(
      fc.property(fc.array(letters(7).map((rest) => `abababab${rest}`), { minLength: 1, maxLength: 12 }), fc.array(fc.oneof(letters(6), fc.constant('abababab')), { maxLength: 9 }), fc.array(fc.nat(60), { maxLength: 5 }), (secrets, parts, cuts) => {
        const text = parts.join('')
        const expected = Array.from(text)
        for (const secret of secrets) for (let at = text.indexOf(secret); at !== -1; at = text.indexOf(secret, at + 1)) expected.fill('*', at, at + secret.length)
        expect(redactInPieces(secrets, Buffer.from(text), cuts.map((cut) => Math.min(cut, text.length))).whole.toString()).toBe(expected.join(''))
      }),
      { numRuns: tries(1_000) },
    )
  })

  // It took a minute for each quarter of a MiB, in which the consumer did nothing else.
  it('is done with what a job prints that has announced as much as it may of what that nearly is', () => {
    const announced = Array.from({ length: 300 }, (_, index) => `::switchyard-mask::${'a'.repeat(150)}${index}x\n`).join('')
    const printed = 'a'.repeat(256 * 1024)
    const redactor = new StreamRedactor(new SecretPatterns())
    expect(redactor.push(Buffer.from(announced)).includes('x')).toBe(true)
    expect(Buffer.concat([redactor.push(Buffer.from(printed)), redactor.push(Buffer.from(`${'a'.repeat(150)}7x${'a'.repeat(150)}299x`)), redactor.flush()]).toString()).toBe(`${printed}${'*'.repeat(152)}${'a'.repeat(150)}299x`)
    // Each place of it begins one.
    const repeated = new StreamRedactor(new SecretPatterns())
    expect(Buffer.concat([repeated.push(Buffer.from(`::switchyard-mask::${'a'.repeat(8)}\n${printed}\n`)), repeated.flush()]).toString()).toBe(`::switchyard-mask::${'*'.repeat(8)}\n${'*'.repeat(printed.length)}\n`)
  })

  it('masks one that is wrapped, indented or coloured in any way, also as texts within texts have it, for every cut of random streams', () => {
    const secret = 'abbaabab'
    const part = fc.oneof({ weight: 6, arbitrary: fc.constantFrom('a', 'b', 'ab', 'abb', 'abba', secret) }, { weight: 3, arbitrary: fc.constantFrom('\n', '\r\n', ' ', '\t', '\\n', '\\\\n', '\\r\\n', '\x1b[31m', '\x1b[0m') }, { weight: 1, arbitrary: fc.constantFrom('c', 'n', '\\', '\x1b', '\x1b[', 'r') })
    let masked = 0
    fc.assert(
      fc.property(fc.array(part, { maxLength: 40 }), fc.array(fc.nat(100), { maxLength: 8 }), (parts, cuts) => {
        const text = Buffer.from(parts.join(''))
        const inside = fold(text, false).bytes.includes(secret)
        if (inside) masked++
        const { whole } = redactInPieces([secret], text, cuts.map((cut) => Math.min(cut, text.length)))
        expect(whole.length).toBe(text.length)
        expect(fold(whole, false).bytes.includes(secret)).toBe(false)
        // Nothing is masked for nothing.
        if (!inside && cuts.length === 0) expect(whole.includes('*'), text.toString()).toBe(false)
      }),
      { numRuns: tries(5_000) },
    )
    expect(masked).toBeGreaterThan(500)
  })

  it('shows the end of a line when nothing follows it, and masks what follows together with it all the same', () => {
    const patterns = new SecretPatterns()
    patterns.add('eyJhbGciOiJIUzI1NiJ9')
    const redactor = new StreamRedactor(patterns)
    expect(redactor.push(Buffer.from('over there\n')).toString()).toBe('over ther')
    expect(redactor.heldBytes).toBe(2)
    expect(redactor.release().toString()).toBe('e\n')
    expect([redactor.heldBytes, redactor.release().length]).toEqual([0, 0])
    expect(redactor.push(Buffer.from('yJhbGciOiJIUzI1NiJ9 it is.\n')).toString()).toBe('******************* it is.\n')
    // A line that goes on, more than hardly anything, half a character and what must be masked in any case wait.
    for (const held of [...['over there', 'an eyJ\n', 'eyJhbGciOiJIUzI1NiJ9 e'].map((text) => Buffer.from(text)), Buffer.from('e\né').subarray(0, 3)]) {
      redactor.push(held)
      expect(redactor.release().length).toBe(0)
      redactor.flush()
    }
  })

  it('shows no more than two characters of a secret, whenever its stream falls silent, and each byte once', () => {
    const secret = 'abcdefghij'
    fc.assert(
      fc.property(fc.array(fc.constantFrom('a', 'b', '\n', ' ', 'x', 'ab\n', secret, 'abcde\nfghij', 'a\nb\ncdefghij'), { maxLength: 12 }), fc.array(fc.nat(60), { maxLength: 12 }), (parts, cuts) => {
        const text = Buffer.from(parts.join(''))
        const patterns = new SecretPatterns()
        patterns.add(secret)
        const redactor = new StreamRedactor(patterns)
        const out: Buffer[] = []
        let start = 0
        for (const cut of [...cuts.toSorted((a, b) => a - b), text.length]) {
          out.push(redactor.push(text.subarray(start, cut)), redactor.release())
          start = Math.max(start, cut)
        }
        out.push(redactor.flush())
        const whole = Buffer.concat(out)
        expect(whole.length).toBe(text.length)
        expect(whole.every((byte, at) => byte === text[at] || byte === 0x2a)).toBe(true)
        expect(whole.toString().replaceAll(/\s/g, '')).not.toContain(secret.slice(2))
      }),
      { numRuns: tries(2_000) },
    )
  })

  it('holds back no more than the longest secret and nothing of other output', () => {
    const text = Buffer.from('a prompt that waits: ')
    expect(redactInPieces(['s3cr3t-value'], text, [text.length]).mostHeld).toBe(0)
    expect(redactInPieces(['s3cr3t-value'], Buffer.from('x s3c'), [5]).mostHeld).toBe(3)
  })

  it.each(['k', '1', 'yes', 'pass-1', 's3cr3t!'])('masks a value as short as "%s" as a whole word, wherever the stream is cut', (secret) => {
    const text = `${secret} a${secret} ${secret}b "${secret}"\n${secret}_ x=${secret}`
    const stars = '*'.repeat(secret.length)
    const expected = `${stars} a${secret} ${secret}b "${stars}"\n${secret}_ x=${stars}`
    for (let cut = 0; cut <= text.length; cut++) expect(redactInPieces([secret], Buffer.from(text), [cut]).whole.toString()).toBe(expected)
    expect(redactInPieces([secret], Buffer.from(text), Array.from(text, (_, at) => at)).whole.toString()).toBe(expected)
  })

  it('masks what the job announces from that line on, wherever the stream is cut', () => {
    const value = 'learnt%25-while-it-ran'
    const text = `first\n::switchyard-mask::${value}\nuse learnt%-while-it-ran and x::switchyard-mask::no-announcement\n::switchyard-mask::ab\nab abc\n::switchyard-`
    const expected = `first\n::switchyard-mask::${'*'.repeat(22)}\nuse ${'*'.repeat(20)} and x::switchyard-mask::no-announcement\n::switchyard-mask::**\n** abc\n::switchyard-`
    // The value as it was announced is escaped, and is hidden there too.
    for (let cut = 0; cut <= text.length; cut++) expect(redactInPieces([], Buffer.from(text), [cut]).whole.toString(), String(cut)).toBe(expected)
    expect(redactInPieces([], Buffer.from(text), Array.from(text, (_, at) => at)).whole.toString()).toBe(expected)
    expect(redactInPieces([], Buffer.from(`::switchyard-mask::${'x'.repeat(40_000)}`), [30_000]).mostHeld).toBeLessThan(17_000)
  })

  it('masks one that the job announces after it has named others over and over, and one that is longer than any may be', () => {
    const patterns = new SecretPatterns()
    for (let turn = 0; turn < 300; turn++) patterns.announce('one-named-each-turn')
    patterns.announce('x'.repeat(40_000))
    patterns.announce('one-named-at-last')
    expect(patterns.mask('one-named-at-last')).toBe('*'.repeat(17))
  })

  it('knows the last hundred passing tokens, each in all of its forms, and forgets older ones whole', () => {
    const patterns = new SecretPatterns()
    const token = (index: number) => `token-number-${String(index).padStart(4, '0')}`
    for (let index = 0; index < 300; index++) patterns.addPassing(token(index))
    for (const form of [(text: string) => text, (text: string) => Buffer.from(`t:${text}`).toString('base64')]) {
      expect(patterns.mask(form(token(299)))).toContain('**********')
      expect(patterns.mask(form(token(200)))).toContain('**********')
      expect(patterns.mask(form(token(199)))).toBe(form(token(199)))
    }
    // One that is a secret for good is not forgotten with it.
    patterns.add(token(250))
    for (let index = 300; index < 500; index++) patterns.addPassing(token(index))
    expect(patterns.mask(token(250))).not.toContain('0250')
  })

  it('does not cut characters in two', () => {
    expect(openCharacter(Buffer.from('é').subarray(0, 1))).toBe(1)
    expect(openCharacter(Buffer.from('😀').subarray(0, 3))).toBe(3)
    expect(openCharacter(Buffer.from('😀'))).toBe(0)
    expect(openCharacter(Buffer.from([0xff]))).toBe(1)
    expect(redactInPieces([], Buffer.from([0xff, 0xfe, 0x00]), [1, 2]).whole).toEqual(Buffer.from([0xff, 0xfe, 0x00]))
  })
})
