/** The Connect protocol as E2B's SDK speaks it: JSON in envelopes of one flag byte and a big-endian uint32 length. */
import type { IncomingMessage } from 'node:http'

const endStreamFlag = 2
/** More than the SDK ever sends: a command line is at most 128 KiB. */
const maxBodyBytes = 256 * 1024 * 1024

export type ConnectCode = 'canceled' | 'deadline_exceeded' | 'not_found' | 'invalid_argument' | 'unauthenticated' | 'unimplemented' | 'unavailable' | 'internal'

/** An answer that is an error, thrown by handlers. */
export class ConnectFailure extends Error {
  constructor(
    readonly code: ConnectCode,
    message: string,
  ) {
    super(message)
  }
}

export const httpStatusOf: Record<ConnectCode, number> = {
  canceled: 499,
  deadline_exceeded: 504,
  not_found: 404,
  invalid_argument: 400,
  unauthenticated: 401,
  unimplemented: 501,
  unavailable: 503,
  internal: 500,
}

export function envelope(message: unknown): Buffer {
  return framed(0, message)
}

export function endStream(error?: ConnectFailure): Buffer {
  return framed(endStreamFlag, error === undefined ? {} : { error: { code: error.code, message: error.message } })
}

function framed(flag: number, message: unknown): Buffer {
  const body = Buffer.from(JSON.stringify(message))
  const head = Buffer.alloc(5)
  head.writeUInt8(flag, 0)
  head.writeUInt32BE(body.length, 1)
  return Buffer.concat([head, body])
}

/** The one message of a streaming request's body. */
export function unwrap(body: Buffer): unknown {
  if (body.length < 5 || body.readUInt32BE(1) !== body.length - 5) throw new ConnectFailure('invalid_argument', 'the envelope is broken')
  return JSON.parse(body.subarray(5).toString('utf8'))
}

export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > maxBodyBytes) throw new Error('the request body is too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
