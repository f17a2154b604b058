/**
 * Reads how long Modal asks to wait out of an error's details: a `google.rpc.Status` that holds a
 * `modal.client.RPCRetryPolicy` with one float of seconds. The SDK acts on it or drops it, but never hands it on.
 */

const policyType = '/modal.client.RPCRetryPolicy'

/** The wait in milliseconds; undefined when there is no such detail or it can't be read. */
export function retryAfterMs(statusDetails: Uint8Array): number | undefined {
  try {
    for (const detail of read(statusDetails).filter((field) => field.number === 3)) {
      const any = read(detail.bytes)
      const type = any.find((field) => field.number === 1)
      if (type === undefined || !Buffer.from(type.bytes).toString('utf8').endsWith(policyType)) continue
      const seconds = read(any.find((field) => field.number === 2)?.bytes ?? new Uint8Array()).find((field) => field.number === 1)
      if (seconds === undefined) return 0
      const value = Buffer.from(seconds.bytes).readFloatLE(0)
      return Number.isFinite(value) && value >= 0 ? Math.round(value * 1000) : undefined
    }
  } catch (error) {
    // Details that are no message of this kind say nothing about waiting.
    if (!(error instanceof RangeError)) throw error
  }
  return undefined
}

interface Field {
  readonly number: number
  readonly bytes: Uint8Array
}

/** The fields of a protobuf message, values undecoded. @throws RangeError when the bytes are none. */
function read(message: Uint8Array): Field[] {
  const fields: Field[] = []
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = message[at]
      if (byte === undefined) throw new RangeError('message ends inside a number')
      at += 1
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
    throw new RangeError('number is too long')
  }
  const take = (length: number): Uint8Array => {
    if (at + length > message.length) throw new RangeError('message ends inside a field')
    at += length
    return message.subarray(at - length, at)
  }
  while (at < message.length) {
    const tag = varint()
    const start = at
    const kind = tag % 8
    const number = Math.floor(tag / 8)
    if (kind === 0) {
      varint()
      fields.push({ number, bytes: message.subarray(start, at) })
    } else if (kind === 1) fields.push({ number, bytes: take(8) })
    else if (kind === 2) fields.push({ number, bytes: take(varint()) })
    else if (kind === 5) fields.push({ number, bytes: take(4) })
    else throw new RangeError(`unknown kind of field ${kind}`)
  }
  return fields
}
