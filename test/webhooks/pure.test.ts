import { Webhook } from 'standardwebhooks'
import { describe, expect, it } from 'vitest'
import { networkProblem } from '../../src/job/networks.js'
import { addressesAllowed, literalAddress } from '../../src/webhooks/addresses.js'
import { deliveryAttempts, longestWaitMs, retryAfterMs, waitAfter } from '../../src/webhooks/retry-schedule.js'
import { headerId, signedHeaders, signersOf } from '../../src/webhooks/signing.js'
import { SlowReceivers } from '../../src/webhooks/slow-receivers.js'
import fc from '../seeded-fast-check.js'

describe('addresses that webhooks may go to', () => {
  const refused = [
    '127.0.0.1', '127.9.9.9', '0.0.0.0', '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '169.254.169.254', '100.64.0.1', '198.18.0.1', '192.0.2.1', '198.51.100.7', '203.0.113.9',
    '224.0.0.1', '240.0.0.1', '255.255.255.255', '::', '::1', 'fe80::1', 'fc00::1', 'fd12::1', 'ff02::1', '::ffff:127.0.0.1', '::ffff:10.0.0.1', '::10.0.0.1', '64:ff9b::a00:1', '2002:a00:1::', '2001:db8::1', '2001::1',
    // Bound to this machine, a server at each of these was reached.
    '::a00:1', '::7f00:1', '200::1', '4000::1', '8000::1', 'fe00::1', 'fec0::1', '64:ff9b:1::a00:1', '5f00::1', '168.63.129.16', '::ffff:168.63.129.16',
  ]
  it.each(refused)('%s is refused', (address) => {
    expect(addressesAllowed([])(address)).toBe(false)
  })
  it.each(['93.184.216.34', '8.8.8.8', '2606:4700:4700::1111', '2a00:1450::1', '3000::1', '::ffff:8.8.8.8'])('%s is public', (address) => {
    expect(addressesAllowed([])(address)).toBe(true)
  })
  it('are refused when they are none', () => {
    for (const text of ['', 'localhost', '127.1', '0x7f000001', '2130706433', '1.2.3.4.5']) expect(addressesAllowed(['0.0.0.0/0'])(text)).toBe(false)
  })
  it('are those of networks that were named, and no others', () => {
    const allowed = addressesAllowed(['10.1.0.0/16', 'fd00::/8', '127.0.0.2'])
    expect(['10.1.2.3', '::ffff:10.1.2.3', 'fd00::5', '127.0.0.2'].map(allowed)).toEqual([true, true, true, true])
    expect(['10.2.0.1', '127.0.0.1', 'fc00::1', '::1', '169.254.169.254'].map(allowed)).toEqual([false, false, false, false, false])
    for (const text of ['10.1/16', 'example.com', '10.0.0.0/33', '', 'fd00::/200']) expect(networkProblem(text)).toMatch(/is no network/)
  })
  it('are found in whatever way a URL writes them', () => {
    for (const host of ['127.0.0.1', '2130706433', '0x7f.1', '017700000001', '127.0.0.1.', '[::1]', '[::ffff:7f00:1]']) {
      const literal = literalAddress(new URL(`http://${host}/`).hostname)
      expect(literal, host).not.toBeNull()
      expect(addressesAllowed([])(literal ?? ''), host).toBe(false)
    }
    expect(literalAddress('example.com')).toBeNull()
  })
})

describe('the schedule of attempts', () => {
  it('lasts a day, whatever chance does', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: deliveryAttempts - 1, maxLength: deliveryAttempts - 1 }), (chances) => {
        const waits = chances.map((chance, index) => waitAfter(index + 1, chance))
        const hours = waits.reduce((sum, wait) => sum + wait, 0) / 3_600_000
        expect(hours).toBeGreaterThanOrEqual(24)
        expect(hours).toBeLessThanOrEqual(30)
        expect(Math.max(...waits)).toBeLessThanOrEqual(longestWaitMs * 1.1)
      }),
    )
  })
  const now = Date.parse('2026-12-01T08:00:00Z')
  it.each([
    [undefined, 0], ['', 0], ['0', 0], ['120', 120_000], [' 5 ', 5_000], ['99999999', longestWaitMs], ['-5', 0], ['1e3', 0], ['soon', 0], ['NaN', 0], ['2026', 2_026_000],
    ['Tue, 01 Dec 2026 08:00:30 GMT', 30_000], ['Tue, 01 Dec 2026 07:00:00 GMT', 0], ['Fri, 01 Jan 2100 00:00:00 GMT', longestWaitMs], ['Tue, nonsense', 0],
  ])('Retry-After: %s', (header, ms) => {
    expect(retryAfterMs(header, now)).toBe(ms)
  })
})

describe('a signature', () => {
  const secret = () => `whsec_${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('base64')}`

  it('is good by the library’s own check, for whoever has the old secret or the new one', () => {
    const [fresh, old, other] = [secret(), secret(), secret()]
    const signers = signersOf('NAME', () => ` ${fresh}\n${old} `)
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.string({ minLength: 1 }), (text, id) => {
        const body = JSON.stringify({ text })
        const headers = signedHeaders(signers, headerId(id), body, Date.now())
        for (const each of [fresh, old]) expect(new Webhook(each).verify(body, headers)).toEqual({ text })
        expect(() => new Webhook(other).verify(body, headers)).toThrow()
        expect(() => new Webhook(fresh).verify(`${body} `, headers)).toThrow()
        expect(/^[\x21-\x7e]+$/.test(headers['webhook-id'] ?? '')).toBe(true)
      }),
      { numRuns: 50 },
    )
  })

  it.each([['', /has no value/], ['   ', /has no value/], ['whsec_', /24 to 64/], ['whsec_c2hvcnQ=', /24 to 64/], ['not base64 at all!', /24 to 64/], ['canary-canary-canary-canary-canary!', /24 to 64/], [`whsec_${'A'.repeat(120)}`, /24 to 64/], [Array(5).fill('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8G').join(' '), /more than 4/]])('refuses %j and does not repeat it', (value, problem) => {
    let message = ''
    try {
      signersOf('NAME', () => value)
    } catch (error) {
      message = String(error)
    }
    expect(message).toMatch(problem)
    expect(message).toContain('NAME')
    for (const part of value.split(' ').filter((text) => text.length > 8)) expect(message).not.toContain(part)
  })
})

describe('deliveries to receivers that are slow', () => {
  const started = (places: number) => {
    const clock = { ms: 1_000 }
    return { clock, receivers: new SlowReceivers(places, () => clock.ms) }
  }

  it('have a quarter of the places, for each tenant and each origin; nobody else waits', () => {
    const { clock, receivers } = started(20)
    const begun = Array.from({ length: 20 }, (_, index) => receivers.begin([`to https://${index}.example`, 'of slow']))
    clock.ms += 10_000
    expect(receivers.putOffMs(['to https://new.example', 'of slow'])).toBe(2_000)
    expect(receivers.putOffMs(['to https://new.example', 'of slow'])).toBe(4_000)
    expect(receivers.putOffMs(['to https://0.example', 'of other'])).toBe(0)
    for (const end of begun.slice(0, 16)) end()
    // What it took last is remembered for a minute.
    expect(receivers.putOffMs(['of slow'])).toBe(0)
    receivers.begin(['of slow'])
    clock.ms += 1
    expect(receivers.putOffMs(['of slow'])).toBeGreaterThan(0)
  })

  it('wait no more once they answer at once, nor for longer than five minutes without another look', () => {
    const { clock, receivers } = started(4)
    const end = receivers.begin(['to a'])
    clock.ms += 10_000
    for (let index = 0; index < 100; index++) expect(receivers.putOffMs(['to a'])).toBeLessThanOrEqual(300_000)
    end()
    const next = receivers.begin(['to a'])
    clock.ms += 20
    next()
    receivers.begin(['to a'])
    expect(receivers.putOffMs(['to a'])).toBe(0)
  })

  it('go on at the receiver’s own pace, however many wait', () => {
    const { clock, receivers } = started(20)
    // Each takes ten seconds, five are under way at once: 2,000 seconds for a thousand, and as much again for their being out of step.
    let due = Array.from({ length: 1_000 }, () => clock.ms)
    let underWay: { readonly endsAtMs: number; readonly end: () => void }[] = []
    const beganAtMs = clock.ms
    while (due.length > 0) {
      for (const { endsAtMs, end } of underWay) if (endsAtMs <= clock.ms) end()
      underWay = underWay.filter(({ endsAtMs }) => endsAtMs > clock.ms)
      due = due.flatMap((atMs) => {
        if (atMs > clock.ms || underWay.length >= 20) return [atMs]
        const waitMs = receivers.putOffMs(['to a'])
        if (waitMs > 0) return [clock.ms + waitMs]
        underWay.push({ endsAtMs: clock.ms + 10_000, end: receivers.begin(['to a']) })
        return []
      })
      clock.ms += 100
    }
    expect(clock.ms - beganAtMs).toBeLessThan(4_000_000)
  })

  it('that are many are forgotten, those first that were used the longest ago', () => {
    const { clock, receivers } = started(4)
    const slowly = (key: string) => {
      const end = receivers.begin([key])
      clock.ms += 2
      return end
    }
    const ends = Array.from({ length: 10_002 }, (_, index) => slowly(`to ${index}`))
    clock.ms += 5_000
    for (const end of ends) end()
    for (const [key, isKnown] of [['to 0', false], ['to 1', false], ['to 2', true], ['to 10001', true]] as const) {
      receivers.begin([key])
      expect(receivers.putOffMs([key]) > 0, key).toBe(isKnown)
    }
  })
})
