import fc from 'fast-check'

/** What hostile input is made of. */

/** Texts that programs trip over. */
export const oddText = fc.oneof(
  { weight: 4, arbitrary: fc.string({ unit: 'binary', maxLength: 40 }) },
  { weight: 3, arbitrary: fc.constantFrom(
    '', ' ', '\0', '\n', '\r\n', '..', '../../etc/passwd', '/', '//', '.', '-', '--upload-pack=x', '-oProxyCommand=x', '__proto__', 'constructor', 'toString', 'hasOwnProperty', 'null', 'undefined', 'NaN', 'true', '0', '-1', '1e999',
    '9007199254740993', '0x10', '%00', '%ff', '%2e%2e%2f', 'refs/heads/main', 'HEAD', '@', '@{-1}', 'main^{tree}', 'a:b', '*', '~', ':(glob)**', 'a\u202eb', '\u001b[2J', '\ud800', 'é'.repeat(100), '💥', '$(id)', '`id`', "'; DROP", '{{7*7}}', '<script>', 'main',
  ) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 20_000 }).map((length) => 'x'.repeat(length)) },
)

export const oddNumber = fc.oneof(fc.integer(), fc.double(), fc.constantFrom(0, -0, -1, 1e308, -1e308, 2 ** 31, 2 ** 53, 2 ** 53 + 2, 0.1, Number.NaN, Number.POSITIVE_INFINITY))

/** Any JSON value, with keys that objects have anyway. */
export const oddJson: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.oneof(oddText, oddNumber.filter(Number.isFinite), fc.boolean(), fc.constant(null)),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.array(fc.tuple(oddText, tie('value')), { maxLength: 4 }).map((entries) => fromEntries(entries)),
    fc.integer({ min: 1, max: 3_000 }).map(nested),
  ),
})).value

/** Own properties whatever they are called, as JSON.parse makes them. */
function fromEntries(entries: readonly (readonly [string, unknown])[]): object {
  const made = {}
  for (const [key, value] of entries) Object.defineProperty(made, key, { value, enumerable: true, configurable: true, writable: true })
  return made
}

function nested(depth: number): unknown {
  let value: unknown = 'end'
  for (let level = 0; level < depth; level++) value = [value]
  return value
}

/** A sound value with something odd in one or more of its places, left out or put beside. */
export function mutated(sound: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  return fc.tuple(sound, fc.array(fc.tuple(fc.nat(60), fc.nat(3), oddJson, oddText), { maxLength: 3 })).map(([value, changes]) => {
    let made = structuredClone(value)
    for (const [at, what, odd, key] of changes) made = changed(made, at, what, odd, key)
    return made
  })
}

function changed(value: unknown, at: number, what: number, odd: unknown, key: string): unknown {
  const places: (readonly [object, string])[] = []
  const visit = (part: unknown) => {
    if (typeof part !== 'object' || part === null || places.length > 200) return
    for (const name of Object.keys(part)) {
      places.push([part, name])
      visit((part as Record<string, unknown>)[name])
    }
  }
  visit(value)
  const place = places[at % Math.max(1, places.length)]
  if (place === undefined || what === 3) return odd
  const [owner, name] = place
  // A list's length is not one to put anything into: then it stays as it is.
  if (what === 0) Reflect.defineProperty(owner, name, { value: odd, enumerable: true, configurable: true, writable: true })
  else if (what === 1) Reflect.deleteProperty(owner, name)
  else Reflect.defineProperty(owner, key, { value: odd, enumerable: true, configurable: true, writable: true })
  return value
}

/** Bytes with some of them changed, cut off, doubled or put between. */
export function mutatedBytes(sound: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  const change = fc.record({ at: fc.nat(100_000), what: fc.nat(5), byte: fc.nat(255), length: fc.nat(64) })
  return fc.tuple(sound, fc.array(change, { maxLength: 4 })).map(([bytes, changes]) => {
    let made = Buffer.from(bytes)
    for (const { at, what, byte, length } of changes) {
      const index = at % Math.max(1, made.length)
      if (what === 0) made[index] = byte
      else if (what === 1) made = made.subarray(0, index)
      else if (what === 2) made = Buffer.concat([made.subarray(0, index), made.subarray(index, index + length), made.subarray(index)])
      else if (what === 3) made = Buffer.concat([made.subarray(0, index), Buffer.alloc(length, byte), made.subarray(index)])
      else if (what === 4) made = Buffer.concat([made.subarray(0, index), made.subarray(index + length)])
      else made[index] = (made[index] ?? 0) ^ (1 << (byte % 8))
    }
    return made
  })
}

/** JSON text: mostly whole, else broken. */
export const jsonText = (value: fc.Arbitrary<unknown>): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 8, arbitrary: value.map((one) => JSON.stringify(one)) },
    { weight: 1, arbitrary: mutatedBytes(value.map((one) => Buffer.from(JSON.stringify(one)))).map((bytes) => bytes.toString('latin1')) },
    { weight: 1, arbitrary: oddText },
  )
