/** What every protocol's request comes down to. Each ./…-protocol.ts reads its own into this and writes an answer out of it. */

export interface ToolCall {
  readonly id: string
  readonly name: string
}

export interface Message {
  /** `tool`: results of calls, whoever's message the protocol puts them in. */
  readonly role: 'user' | 'assistant' | 'tool'
  readonly text: string
  /** The tools that an assistant's message calls. */
  readonly calls: readonly ToolCall[]
}

export interface Conversation {
  readonly model: string
  readonly stream: boolean
  readonly system: string
  readonly messages: readonly Message[]
  /** The names of the tools that the client offers. */
  readonly tools: readonly string[]
}

/** What the model says: words, or a call of one of the tools that it was offered. */
export interface Answer {
  readonly text: string
  readonly call: { readonly name: string; readonly input: Readonly<Record<string, unknown>> } | undefined
}

export interface Usage {
  readonly inputTokens: number
  /** Of the input, those that stand at the beginning of an earlier request too, in the same order. */
  readonly cachedTokens: number
  readonly outputTokens: number
}

/** An answer as it is sent. */
export interface Reply {
  /** Unique in this server, for the ids in what is sent. */
  readonly number: number
  readonly model: string
  readonly answer: Answer
  readonly usage: Usage
}

/** One of the wire protocols. */
export interface Protocol {
  readonly name: 'anthropic' | 'openai-chat' | 'openai-responses' | 'gemini'
  /** Whether a request's path is one of its own that asks for an answer. */
  answers(path: string): boolean
  /** @throws ZodError when the body is none of this protocol's. */
  read(body: unknown, path: string): Conversation
  /** The answer in one piece. */
  whole(reply: Reply): unknown
  /** The same as server-sent events. */
  events(reply: Reply): readonly ServerSentEvent[]
  /** An error as its clients read it. */
  error(status: number, message: string): unknown
}

export interface ServerSentEvent {
  /** Left out where the protocol gives its events no names. */
  readonly event?: string
  /** An object goes out as JSON, a string as it is. */
  readonly data: object | string
}

/** Text in the pieces in which a model streams it. */
export function pieces(text: string): string[] {
  return text.match(/[^]{1,24}/g) ?? []
}
