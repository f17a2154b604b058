/**
 * A model for the tests: it speaks Anthropic's Messages, OpenAI's Chat Completions and Responses, and Gemini's API, streamed or
 * not, so that real agents can work without a network. What it says is decided by the conversation alone (./obedient-model.ts);
 * what that costs is counted by turn (./token-count.ts).
 *
 * Beside the protocols: `GET /admin/turns` (the costs), `GET /admin/requests` (the last thousand).
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ZodError } from 'zod'
import { anthropic } from './anthropic-protocol.js'
import type { Conversation, Protocol, ServerSentEvent, Usage } from './conversation.js'
import { gemini } from './gemini-protocol.js'
import { answerTo, doneIn, type Purpose } from './obedient-model.js'
import { openaiChat } from './openai-chat-protocol.js'
import { openaiResponses } from './openai-responses-protocol.js'
import { TokenCount, type TurnCost } from './token-count.js'

const protocols: readonly Protocol[] = [anthropic, openaiChat, openaiResponses, gemini]
const maxBodyBytes = 32 * 1024 * 1024
const maxRequests = 1_000

type Outcome = { readonly status: number; readonly json: unknown } | { readonly status: number; readonly events: readonly ServerSentEvent[] }

/** A request for an answer, as it was recorded. */
export interface ModelRequest {
  readonly number: number
  readonly protocol: Protocol['name']
  readonly purpose: Purpose
  readonly usage: Usage
  readonly messages: number
  /** The tasks whose results the client sent along. */
  readonly done: readonly number[]
}

export interface ModelServer {
  /** Without a path: what ANTHROPIC_BASE_URL takes; OpenAI's clients take it with `/v1`. */
  readonly url: string
  /** The only key that is let in. */
  readonly apiKey: string
  readonly requests: readonly ModelRequest[]
  turns(): TurnCost[]
  close(): Promise<void>
}

/** @param options.thinkMs how long the model thinks before each answer, in milliseconds. */
export async function startModelServer(options: { readonly port?: number; readonly apiKey?: string; readonly thinkMs?: number } = {}): Promise<ModelServer> {
  const apiKey = options.apiKey ?? 'sk-local-model'
  const thinkMs = options.thinkMs ?? 0
  const requests: ModelRequest[] = []
  const count = new TokenCount()
  let number = 0

  /** What a request is answered with. */
  async function outcomeOf(request: IncomingMessage): Promise<Outcome> {
    const url = new URL(request.url ?? '/', 'http://model.invalid')
    const path = url.pathname
    const body = await bodyOf(request)
    if (request.method === 'GET' && path === '/admin/turns') return { status: 200, json: count.turns() }
    if (request.method === 'GET' && path === '/admin/requests') return { status: 200, json: requests }
    // Some clients ask whether anybody is there at all, before they have a key.
    if (request.method === 'HEAD') return { status: 200, json: null }
    const protocol = protocols.find((each) => each.answers(path)) ?? (path.startsWith('/v1beta') ? gemini : path.startsWith('/v1/messages') ? anthropic : openaiChat)
    const refuse = (status: number, message: string): Outcome => ({ status, json: protocol.error(status, message) })
    if (!keysOf(request, url).includes(apiKey)) return refuse(401, 'the key is not the one that this server was started with')
    if (request.method === 'GET' && path === '/v1/models') return { status: 200, json: { object: 'list', data: [{ id: 'obedient', object: 'model', type: 'model', display_name: 'Obedient' }], has_more: false } }
    if (body === undefined) return refuse(413, `the request is longer than ${maxBodyBytes} bytes`)
    try {
      if (request.method === 'POST' && protocol.answers(path)) return await answered(protocol, protocol.read(JSON.parse(body), path))
    } catch (error) {
      if (error instanceof ZodError) return refuse(400, error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; '))
      if (error instanceof SyntaxError) return refuse(400, 'the body is not JSON')
      throw error
    }
    if (request.method === 'POST' && /^\/v1\/messages\/count_tokens$|:countTokens$/.test(path)) {
      const tokens = Math.ceil(body.length / 4)
      return { status: 200, json: { input_tokens: tokens, totalTokens: tokens } }
    }
    return refuse(404, `${request.method ?? ''} ${path}: this server does not have that`)
  }

  async function answered(protocol: Protocol, conversation: Conversation): Promise<Outcome> {
    const { answer, purpose } = answerTo(conversation)
    const usage = count.add(conversation, answer, purpose)
    number += 1
    const reply = { number, model: conversation.model, answer, usage }
    requests.push({ number, protocol: protocol.name, purpose, usage, messages: conversation.messages.length, done: [...doneIn(conversation.messages)] })
    if (requests.length > maxRequests) requests.shift()
    if (thinkMs > 0) await new Promise((resolve) => setTimeout(resolve, thinkMs))
    return conversation.stream ? { status: 200, events: protocol.events(reply) } : { status: 200, json: protocol.whole(reply) }
  }

  const server = createServer((request, response) => {
    outcomeOf(request)
      .catch((error: unknown): Outcome => ({ status: 500, json: { error: { message: error instanceof Error ? error.message : 'unknown' } } }))
      .then((outcome) => {
        send(response, outcome)
      })
      // The client has gone.
      .catch(() => response.destroy())
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port ?? 0, '127.0.0.1', resolve)
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    apiKey,
    requests,
    turns: () => count.turns(),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** Wherever the clients put their key. */
function keysOf(request: IncomingMessage, url: URL): (string | undefined)[] {
  const header = (name: string) => [request.headers[name]].flat()[0]
  return [header('x-api-key'), header('x-goog-api-key'), header('authorization')?.replace(/^Bearer /i, ''), url.searchParams.get('key') ?? undefined]
}

/** @returns undefined when it is too long. */
async function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes <= maxBodyBytes) chunks.push(chunk)
  }
  return bytes > maxBodyBytes ? undefined : Buffer.concat(chunks).toString('utf8')
}

function send(response: ServerResponse, outcome: Outcome): void {
  if ('json' in outcome) {
    response.writeHead(outcome.status, { 'content-type': 'application/json' }).end(JSON.stringify(outcome.json))
    return
  }
  response.writeHead(outcome.status, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
  for (const { event, data } of outcome.events) {
    response.write(`${event === undefined ? '' : `event: ${event}\n`}data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`)
  }
  response.end()
}
