/** OpenAI's Chat Completions, as Qwen Code, opencode, aider and most others speak it. */
import { z } from 'zod'
import { pieces, type Conversation, type Message, type Protocol, type Reply } from './conversation.js'

const content = z.union([z.string(), z.array(z.looseObject({ type: z.string(), text: z.string().optional() })), z.null()]).optional()
const message = z.looseObject({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
  content,
  tool_calls: z.array(z.looseObject({ id: z.string(), function: z.looseObject({ name: z.string(), arguments: z.string() }) })).nullish(),
})
const request = z.looseObject({
  model: z.string(),
  stream: z.boolean().nullish(),
  messages: z.array(message).min(1),
  tools: z.array(z.looseObject({ function: z.looseObject({ name: z.string() }) })).nullish(),
})

export const openaiChat: Protocol = {
  name: 'openai-chat',
  answers: (path) => path === '/v1/chat/completions',
  read(body): Conversation {
    const { model, stream, messages, tools } = request.parse(body)
    const isSystem = ({ role }: z.output<typeof message>) => role === 'system' || role === 'developer'
    return {
      model,
      stream: stream === true,
      system: messages.filter(isSystem).map((each) => textOf(each.content)).join('\n'),
      messages: messages.filter((each) => !isSystem(each)).map(
        (each): Message => ({
          role: each.role as Message['role'],
          text: textOf(each.content),
          calls: (each.tool_calls ?? []).map((call) => ({ id: call.id, name: call.function.name })),
        }),
      ),
      tools: (tools ?? []).map((tool) => tool.function.name),
    }
  },
  whole(reply) {
    const { answer } = reply
    const said = { role: 'assistant', content: answer.call === undefined ? answer.text : null, ...(answer.call === undefined ? {} : { tool_calls: [toolCall(reply, JSON.stringify(answer.call.input))] }) }
    return { ...envelope(reply, 'chat.completion'), choices: [{ index: 0, message: said, finish_reason: finishReason(reply) }], usage: usageOf(reply) }
  },
  events(reply) {
    const { answer } = reply
    const chunk = (delta: object, finish_reason: string | null = null) => ({ data: { ...envelope(reply, 'chat.completion.chunk'), choices: [{ index: 0, delta, finish_reason }] } })
    const deltas =
      answer.call === undefined
        ? pieces(answer.text).map((text) => chunk({ content: text }))
        : [
            chunk({ tool_calls: [{ index: 0, ...toolCall(reply, '') }] }),
            ...pieces(JSON.stringify(answer.call.input)).map((part) => chunk({ tool_calls: [{ index: 0, function: { arguments: part } }] })),
          ]
    return [
      chunk({ role: 'assistant', content: answer.call === undefined ? '' : null }),
      ...deltas,
      chunk({}, finishReason(reply)),
      { data: { ...envelope(reply, 'chat.completion.chunk'), choices: [], usage: usageOf(reply) } },
      { data: '[DONE]' },
    ]
  },
  error: openaiError,
}

/** An error as both of OpenAI's protocols have it. */
export function openaiError(status: number, text: string): unknown {
  return { error: { message: text, type: 'invalid_request_error', param: null, code: status === 401 ? 'invalid_api_key' : null } }
}

function textOf(value: z.output<typeof content>): string {
  if (typeof value === 'string') return value
  return (value ?? []).map(({ text }) => text ?? '').join('\n')
}

function envelope({ number, model }: Reply, object: string) {
  return { id: `chatcmpl-${number}`, object, created: 1_700_000_000, model }
}

function toolCall({ number, answer }: Reply, text: string) {
  return { id: `call_${number}`, type: 'function', function: { name: answer.call?.name, arguments: text } }
}

function finishReason({ answer }: Reply): string {
  return answer.call === undefined ? 'stop' : 'tool_calls'
}

function usageOf({ usage }: Reply) {
  return {
    prompt_tokens: usage.inputTokens,
    completion_tokens: usage.outputTokens,
    total_tokens: usage.inputTokens + usage.outputTokens,
    prompt_tokens_details: { cached_tokens: usage.cachedTokens },
  }
}
