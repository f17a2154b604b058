/** Gemini's API, as Gemini CLI speaks it. */
import { z } from 'zod'
import type { Conversation, Message, Protocol, Reply } from './conversation.js'

const part = z.looseObject({
  text: z.string().optional(),
  thought: z.boolean().optional(),
  functionCall: z.looseObject({ name: z.string(), id: z.string().optional() }).optional(),
  functionResponse: z.looseObject({ name: z.string(), response: z.record(z.string(), z.unknown()).optional() }).optional(),
})
const request = z.looseObject({
  contents: z.array(z.looseObject({ role: z.enum(['user', 'model']).default('user'), parts: z.array(part) })).min(1),
  systemInstruction: z.looseObject({ parts: z.array(part) }).optional(),
  tools: z.array(z.looseObject({ functionDeclarations: z.array(z.looseObject({ name: z.string() })).default([]) })).default([]),
})
const paths = /^\/v1(?:beta)?\/models\/([^/:]+):(generateContent|streamGenerateContent)$/

export const gemini: Protocol = {
  name: 'gemini',
  answers: (path) => paths.test(path),
  read(body, path): Conversation {
    const { contents, systemInstruction, tools } = request.parse(body)
    const [, model = '', verb] = paths.exec(path) ?? []
    return {
      model,
      stream: verb === 'streamGenerateContent',
      system: textOf(systemInstruction?.parts ?? []),
      messages: contents.flatMap(({ role, parts }) => fromParts(role, parts)),
      tools: tools.flatMap(({ functionDeclarations }) => functionDeclarations.map(({ name }) => name)),
    }
  },
  whole: (reply) => response(reply),
  // A call comes whole, and words in one piece are what its short answers look like too.
  events: (reply) => [{ data: response(reply) }],
  error: (status, message) => ({ error: { code: status, message, status: status === 401 ? 'UNAUTHENTICATED' : status === 404 ? 'NOT_FOUND' : 'INVALID_ARGUMENT' } }),
}

function fromParts(role: 'user' | 'model', parts: readonly z.output<typeof part>[]): Message[] {
  const text = textOf(parts)
  if (role === 'model') return [{ role: 'assistant', text, calls: parts.flatMap(({ functionCall: call }) => (call === undefined ? [] : [{ id: call.id ?? call.name, name: call.name }])) }]
  const results = parts.flatMap(({ functionResponse }) => (functionResponse === undefined ? [] : [Object.values(functionResponse.response ?? {}).map(String).join('\n')]))
  return [
    ...(results.length === 0 ? [] : [{ role: 'tool' as const, text: results.join('\n'), calls: [] }]),
    ...(text === '' ? [] : [{ role: 'user' as const, text, calls: [] }]),
  ]
}

function textOf(parts: readonly z.output<typeof part>[]): string {
  return parts.flatMap(({ text, thought }) => (text === undefined || thought === true ? [] : [text])).join('\n')
}

function response({ number, model, answer, usage }: Reply) {
  const said = answer.call === undefined ? { text: answer.text } : { functionCall: { name: answer.call.name, args: answer.call.input } }
  return {
    responseId: `response-${number}`,
    modelVersion: model,
    candidates: [{ index: 0, content: { role: 'model', parts: [said] }, finishReason: 'STOP' }],
    usageMetadata: {
      promptTokenCount: usage.inputTokens,
      cachedContentTokenCount: usage.cachedTokens,
      candidatesTokenCount: usage.outputTokens,
      totalTokenCount: usage.inputTokens + usage.outputTokens,
    },
  }
}
