/** Anthropic's Messages API, as Claude Code speaks it. */
import { z } from 'zod'
import { pieces, type Conversation, type Message, type Protocol, type Reply, type ServerSentEvent } from './conversation.js'

const textBlock = z.looseObject({ type: z.literal('text'), text: z.string() })
const block = z.union([
  textBlock,
  z.looseObject({ type: z.literal('tool_use'), id: z.string(), name: z.string(), input: z.unknown() }),
  z.looseObject({ type: z.literal('tool_result'), tool_use_id: z.string(), content: z.union([z.string(), z.array(z.looseObject({ type: z.string(), text: z.string().optional() }))]).optional() }),
  // Thinking, images, documents: nothing that this model looks at.
  z.looseObject({ type: z.string() }),
])
const request = z.looseObject({
  model: z.string(),
  max_tokens: z.number(),
  stream: z.boolean().default(false),
  system: z.union([z.string(), z.array(z.looseObject({ text: z.string().default('') }))]).default(''),
  messages: z.array(z.looseObject({ role: z.enum(['user', 'assistant', 'system']), content: z.union([z.string(), z.array(block)]) })).min(1),
  tools: z.array(z.looseObject({ name: z.string() })).default([]),
})

export const anthropic: Protocol = {
  name: 'anthropic',
  answers: (path) => path === '/v1/messages',
  read(body): Conversation {
    const { model, stream, system, messages, tools } = request.parse(body)
    return {
      model,
      stream,
      system: typeof system === 'string' ? system : system.map(({ text }) => text).join('\n'),
      messages: messages.flatMap(({ role, content }) => (typeof content === 'string' ? [{ role: role === 'assistant' ? role : 'user', text: content, calls: [] }] : fromBlocks(role, content))),
      tools: tools.map(({ name }) => name),
    }
  },
  whole(reply) {
    return { ...envelope(reply), content: [content(reply)], stop_reason: stopReason(reply), usage: usageOf(reply) }
  },
  events(reply) {
    const { answer } = reply
    const full = content(reply)
    const deltas = answer.call === undefined ? pieces(answer.text).map((text) => ({ type: 'text_delta', text })) : pieces(JSON.stringify(answer.call.input)).map((partial_json) => ({ type: 'input_json_delta', partial_json }))
    return [
      named({ type: 'message_start', message: { ...envelope(reply), content: [], stop_reason: null, usage: { ...usageOf(reply), output_tokens: 1 } } }),
      named({ type: 'content_block_start', index: 0, content_block: answer.call === undefined ? { type: 'text', text: '' } : { ...full, input: {} } }),
      ...deltas.map((delta) => named({ type: 'content_block_delta', index: 0, delta })),
      named({ type: 'content_block_stop', index: 0 }),
      named({ type: 'message_delta', delta: { stop_reason: stopReason(reply), stop_sequence: null }, usage: { output_tokens: reply.usage.outputTokens } }),
      named({ type: 'message_stop' }),
    ]
  },
  error: (status, message) => ({ type: 'error', error: { type: status === 401 ? 'authentication_error' : status === 404 ? 'not_found_error' : 'invalid_request_error', message } }),
}

/** A user's message may hold results of calls and words of its own: two messages. */
function fromBlocks(role: string, blocks: readonly z.output<typeof block>[]): Message[] {
  const texts: string[] = []
  const results: string[] = []
  const calls: { id: string; name: string }[] = []
  for (const each of blocks) {
    if (each.type === 'text') texts.push((each as z.output<typeof textBlock>).text)
    if (each.type === 'tool_use') calls.push({ id: String(each['id']), name: String(each['name']) })
    if (each.type === 'tool_result') results.push(resultText(each['content']))
  }
  if (role === 'assistant') return [{ role, text: texts.join('\n'), calls }]
  return [
    ...(results.length === 0 ? [] : [{ role: 'tool' as const, text: results.join('\n'), calls: [] }]),
    ...(texts.length === 0 ? [] : [{ role: 'user' as const, text: texts.join('\n'), calls: [] }]),
  ]
}

function resultText(value: unknown): string {
  if (typeof value === 'string') return value
  return Array.isArray(value) ? (value as { text?: string }[]).map(({ text }) => text ?? '').join('\n') : ''
}

function named(data: { readonly type: string } & Record<string, unknown>): ServerSentEvent {
  return { event: data.type, data }
}

function envelope({ number, model }: Reply) {
  return { id: `msg_${number}`, type: 'message', role: 'assistant', model, stop_sequence: null }
}

function content({ number, answer }: Reply) {
  return answer.call === undefined ? { type: 'text', text: answer.text } : { type: 'tool_use', id: `toolu_${number}`, name: answer.call.name, input: answer.call.input }
}

function stopReason({ answer }: Reply): string {
  return answer.call === undefined ? 'end_turn' : 'tool_use'
}

function usageOf({ usage }: Reply) {
  return { input_tokens: usage.inputTokens - usage.cachedTokens, cache_read_input_tokens: usage.cachedTokens, cache_creation_input_tokens: 0, output_tokens: usage.outputTokens }
}
