/** OpenAI's Responses API, as Codex speaks it. */
import { z } from 'zod'
import { pieces, type Conversation, type Message, type Protocol, type Reply, type ServerSentEvent } from './conversation.js'
import { openaiError } from './openai-chat-protocol.js'

const parts = z.union([z.string(), z.array(z.looseObject({ text: z.string().optional() }))])
const item = z.union([
  z.looseObject({ type: z.literal('function_call'), call_id: z.string(), name: z.string() }),
  z.looseObject({ type: z.literal('function_call_output'), call_id: z.string(), output: parts }),
  z.looseObject({ type: z.literal('message').optional(), role: z.enum(['user', 'assistant', 'system', 'developer']), content: parts }),
  // Reasoning and the like: nothing that this model looks at.
  z.looseObject({ type: z.string() }),
])
const request = z.looseObject({
  model: z.string(),
  stream: z.boolean().nullish(),
  instructions: z.string().nullish(),
  input: z.union([z.string(), z.array(item)]),
  tools: z.array(z.looseObject({ type: z.string(), name: z.string().optional() })).nullish(),
})

export const openaiResponses: Protocol = {
  name: 'openai-responses',
  answers: (path) => path === '/v1/responses',
  read(body): Conversation {
    const { model, stream, instructions, input, tools } = request.parse(body)
    return {
      model,
      stream: stream === true,
      system: instructions ?? '',
      messages: typeof input === 'string' ? [{ role: 'user', text: input, calls: [] }] : input.flatMap(fromItem),
      tools: (tools ?? []).map(({ type, name }) => name ?? type),
    }
  },
  whole: (reply) => response(reply, 'completed'),
  events(reply) {
    const { answer } = reply
    const full = output(reply)
    const begun = answer.call === undefined ? { ...full, status: 'in_progress', content: [] } : { ...full, status: 'in_progress', arguments: '' }
    const deltas =
      answer.call === undefined
        ? pieces(answer.text).map((delta) => named({ type: 'response.output_text.delta', item_id: full.id, output_index: 0, content_index: 0, delta }))
        : pieces(JSON.stringify(answer.call.input)).map((delta) => named({ type: 'response.function_call_arguments.delta', item_id: full.id, output_index: 0, delta }))
    return [
      named({ type: 'response.created', response: response(reply, 'in_progress') }),
      named({ type: 'response.output_item.added', output_index: 0, item: begun }),
      ...deltas,
      named({ type: 'response.output_item.done', output_index: 0, item: full }),
      named({ type: 'response.completed', response: response(reply, 'completed') }),
    ]
  },
  error: openaiError,
}

function fromItem(each: z.output<typeof item>): Message[] {
  if (each.type === 'function_call') return [{ role: 'assistant', text: '', calls: [{ id: String(each['call_id']), name: String(each['name']) }] }]
  if (each.type === 'function_call_output') return [{ role: 'tool', text: textOf(each['output']), calls: [] }]
  const role = each['role']
  if (typeof role !== 'string' || role === 'system' || role === 'developer') return []
  return [{ role: role === 'assistant' ? 'assistant' : 'user', text: textOf(each['content']), calls: [] }]
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value
  return Array.isArray(value) ? (value as { text?: string }[]).map(({ text }) => text ?? '').join('\n') : ''
}

function named(data: { readonly type: string } & Record<string, unknown>): ServerSentEvent {
  return { event: data.type, data }
}

function output({ number, answer }: Reply) {
  return answer.call === undefined
    ? { type: 'message', id: `msg_${number}`, role: 'assistant', status: 'completed', content: [{ type: 'output_text', text: answer.text, annotations: [] }] }
    : { type: 'function_call', id: `fc_${number}`, call_id: `call_${number}`, name: answer.call.name, arguments: JSON.stringify(answer.call.input), status: 'completed' }
}

function response(reply: Reply, status: 'in_progress' | 'completed') {
  const { number, model, usage } = reply
  const done = status === 'completed'
  return {
    id: `resp_${number}`,
    object: 'response',
    created_at: 1_700_000_000,
    model,
    status,
    output: done ? [output(reply)] : [],
    usage: done
      ? {
          input_tokens: usage.inputTokens,
          input_tokens_details: { cached_tokens: usage.cachedTokens },
          output_tokens: usage.outputTokens,
          output_tokens_details: { reasoning_tokens: 0 },
          total_tokens: usage.inputTokens + usage.outputTokens,
        }
      : null,
  }
}
