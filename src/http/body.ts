import type { Context } from 'hono'
import { errorMessage } from '../job/errors.js'
import { HttpRefusalError, malformed } from './refusal.js'

const json = /^application\/json[ \t]*(;[ \t]*charset=("?)utf-8\2[ \t]*)?$/i

export interface ReadBody {
  readonly bytes: Uint8Array
  /** Undefined when there was no body. */
  readonly value: unknown
}

/**
 * Reads a body of JSON, by what arrives and not by what its header says will.
 * @param maxBytes how large it may be.
 * @throws HttpRefusalError 413, 415 or 400.
 */
export async function readJson({ req }: Context, maxBytes: number): Promise<ReadBody> {
  const said = Number(req.header('content-length') ?? 0)
  const bytes = await readBytes(req.raw, said, maxBytes)
  if (bytes.length === 0 && said > 0) throw malformed('body: was read by the application before it came here; mount the API before what parses bodies')
  if (bytes.length === 0) return { bytes, value: undefined }
  const type = req.header('content-type')
  if (type === undefined || !json.test(type.trim())) {
    throw new HttpRefusalError(415, 'SWY_HTTP_CONTENT_TYPE', `content-type: ${type === undefined ? 'is missing' : 'is not one that is taken'}; send the body as application/json, in UTF-8`)
  }
  const encoding = req.header('content-encoding')
  if (encoding !== undefined && encoding.trim().toLowerCase() !== 'identity') {
    throw new HttpRefusalError(415, 'SWY_HTTP_CONTENT_TYPE', 'content-encoding: compressed bodies are not taken; send the JSON as it is')
  }
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw malformed('body: is not UTF-8; send JSON in UTF-8')
  }
  try {
    return { bytes, value: JSON.parse(text) as unknown }
  } catch (error) {
    // Node quotes the text around the fault, which may hold anything.
    const at = /at position \d+/.exec(errorMessage(error))?.[0]
    throw malformed(`body: is not JSON${at === undefined ? '' : ` (${at})`}; send one JSON value`)
  }
}

async function readBytes(request: Request, said: number, maxBytes: number): Promise<Uint8Array> {
  const tooLarge = () => new HttpRefusalError(413, 'SWY_HTTP_BODY_SIZE', `body: is over the limit of ${maxBytes} bytes; send fewer jobs at once, or commit large inputs to the repository`)
  if (said > maxBytes) throw tooLarge()
  const parts: Uint8Array[] = []
  let size = 0
  if (request.body === null) return new Uint8Array()
  for await (const part of request.body as unknown as AsyncIterable<Uint8Array>) {
    size += part.length
    if (size > maxBytes) throw tooLarge()
    parts.push(part)
  }
  return Buffer.concat(parts)
}
