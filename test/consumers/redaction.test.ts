import { describe, expect, it } from 'vitest'
import { SecretPatterns, StreamRedactor, openCharacter } from '../../src/consumers/output/redaction.js'

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
    const text = Buffer.from('xxabcabcdabcdeyy')
    const { whole } = redactInPieces(['abcde', 'bcda'], text, [...text.keys()])
    expect(whole.toString()).toBe('xxabca********yy')
    expect(whole.toString()).not.toContain('abcde')
    expect(whole.toString()).not.toContain('bcda')
    expect(whole.length).toBe(text.length)
  })

  it('masks secrets over several lines, and in the encodings in which tools print them', () => {
    const secret = 'first line\nsecond "line"'
    const printed = [secret, JSON.stringify(secret), encodeURIComponent(secret), Buffer.from(secret).toString('base64')].join(' | ')
    const { whole } = redactInPieces([secret], Buffer.from(printed), [5, 20, 60])
    expect(whole.toString()).not.toMatch(/second|c2Vjb25k/)
  })

  it('masks both of two overlapping secrets, for every cut of random streams', () => {
    let seed = 7
    const random = (below: number) => (seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31) % below
    for (let round = 0; round < 300; round++) {
      const secrets = Array.from({ length: 1 + random(3) }, () => Array.from({ length: 2 + random(4) }, () => 'ab'[random(2)]).join(''))
      const text = Array.from({ length: 40 }, () => 'abc'[random(3)]).join('')
      const whole = redactInPieces(secrets, Buffer.from(text), []).whole.toString()
      const cut = redactInPieces(secrets, Buffer.from(text), Array.from({ length: 6 }, () => random(41))).whole.toString()
      expect(cut).toBe(whole)
      for (const secret of secrets) expect(cut).not.toContain(secret)
    }
  })

  it('holds back no more than the longest secret and nothing of other output', () => {
    const text = Buffer.from('a prompt that waits: ')
    expect(redactInPieces(['s3cr3t'], text, [text.length]).mostHeld).toBe(0)
    expect(redactInPieces(['s3cr3t'], Buffer.from('x s3c'), [5]).mostHeld).toBe(3)
  })

  it('does not cut characters in two', () => {
    expect(openCharacter(Buffer.from('é').subarray(0, 1))).toBe(1)
    expect(openCharacter(Buffer.from('😀').subarray(0, 3))).toBe(3)
    expect(openCharacter(Buffer.from('😀'))).toBe(0)
    expect(openCharacter(Buffer.from([0xff]))).toBe(1)
    expect(redactInPieces([], Buffer.from([0xff, 0xfe, 0x00]), [1, 2]).whole).toEqual(Buffer.from([0xff, 0xfe, 0x00]))
  })
})
