import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import { z } from 'zod'

/**
 * The few calls of the Docker Engine API that the adapter makes, over the engine's UNIX socket. By Node's own HTTP client,
 * because the libraries for it bring SSH, gRPC and tar along and none of them is needed here. Paths are without a version,
 * which the engine takes as its newest: all of these are the same since API 1.30, and Podman has them.
 */
export class Engine {
  constructor(readonly socketPath: string) {}

  /** @throws EngineError for any status that is not 2xx or 304, Node's own error when the engine can't be reached. */
  async json<Schema extends z.ZodType>(schema: Schema, method: 'GET' | 'POST', path: string, signal: AbortSignal, body?: unknown): Promise<z.output<Schema>> {
    return schema.parse(JSON.parse(await readText(await this.stream(method, path, signal, body))))
  }

  /** For calls whose answer holds nothing. */
  async call(method: 'POST' | 'DELETE', path: string, signal: AbortSignal): Promise<void> {
    await readText(await this.stream(method, path, signal))
  }

  /** The body of an answer, to be read to its end. */
  async stream(method: string, path: string, signal: AbortSignal, body?: unknown): Promise<IncomingMessage> {
    const payload = body === undefined ? undefined : JSON.stringify(body)
    const headers = payload === undefined ? { host: 'engine' } : { host: 'engine', 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }
    const sent = request({ socketPath: this.socketPath, method, path, headers, signal, agent: false })
    sent.end(payload)
    const [response] = (await once(sent, 'response')) as [IncomingMessage]
    // A failure after the answer began shows where the answer is read.
    sent.on('error', () => undefined)
    const status = response.statusCode ?? 0
    if ((status >= 200 && status < 300) || status === 304) return response
    throw new EngineError(status, messageOf(await readText(response)))
  }
}

/** An answer that is no success. `message` is the engine's own and may quote what was sent. */
export class EngineError extends Error {
  override readonly name = 'EngineError'
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message)
  }
}

/** A listing of thousands of containers is some megabytes. */
const maxAnswerBytes = 64 * 1024 * 1024

async function readText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > maxAnswerBytes) throw new Error(`the engine's answer is longer than ${maxAnswerBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

const problemSchema = z.object({ message: z.string() })

function messageOf(text: string): string {
  try {
    return problemSchema.parse(JSON.parse(text)).message
  } catch {
    return text.slice(0, 500)
  }
}
