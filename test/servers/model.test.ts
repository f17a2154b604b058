import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { answerTo, doneIn, tasksIn } from './model/obedient-model.js'
import { startModelServer, type ModelServer } from './model/server.js'
import type { Message } from './model/conversation.js'

let server: ModelServer
beforeEach(async () => {
  server = await startModelServer()
})
afterEach(() => server.close())

const prompt = 'Do these:\n  task 1: echo one > one.txt\n  task 2: echo two\n'

/** A client's part in a protocol, as little of it as it takes. */
interface Client {
  readonly path: (stream: boolean) => string
  readonly key: (key: string) => Record<string, string>
  /** A request after so many tasks are done. */
  readonly body: (done: number, stream: boolean) => unknown
  /** What an answer says, in one piece or as events. */
  readonly heard: (answer: unknown) => string
  readonly streamed: (events: readonly unknown[]) => string
}

/** The text at a path of what the server sent; nothing where there is none. */
function at(value: unknown, path: string): string {
  const found = path.split('.').reduce<unknown>((inner, key) => (inner as Record<string, unknown> | null | undefined)?.[key], value)
  return typeof found === 'string' ? found : ''
}

/** The command in a call's arguments, or the words in their place. */
function commandIn(call: string, words: string): string {
  const input = call === '' ? {} : (JSON.parse(call) as { command?: string; cmd?: string })
  return input.command ?? input.cmd ?? words
}

const result = (task: number) => `[task ${task} done]`
const upTo = <Item>(done: number, make: (task: number) => Item[]) => Array.from({ length: done }, (_, index) => make(index + 1)).flat()

const clients: Record<string, Client> = {
  'Anthropic Messages': {
    path: () => '/v1/messages',
    key: (key) => ({ 'x-api-key': key }),
    body: (done, stream) => ({
      model: 'm', max_tokens: 10, stream, tools: [{ name: 'Bash' }],
      messages: [{ role: 'user', content: [{ type: 'text', text: prompt }] }, ...upTo(done, (task) => [
        { role: 'assistant', content: [{ type: 'tool_use', id: `t${task}`, name: 'Bash', input: {} }] },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: `t${task}`, content: [{ type: 'text', text: result(task) }] }] },
      ])],
    }),
    heard: (answer) => at(answer, 'content.0.text') + at(answer, 'content.0.input.command'),
    streamed: (events) => commandIn(all(events, 'delta.partial_json'), all(events, 'delta.text')),
  },
  'OpenAI Chat Completions': {
    path: () => '/v1/chat/completions',
    key: (key) => ({ authorization: `Bearer ${key}` }),
    body: (done, stream) => ({
      model: 'm', stream, tools: [{ type: 'function', function: { name: 'bash' } }],
      messages: [{ role: 'system', content: 'be brief' }, { role: 'user', content: prompt }, ...upTo(done, (task) => [
        { role: 'assistant', content: null, tool_calls: [{ id: `t${task}`, type: 'function', function: { name: 'bash', arguments: '{}' } }] },
        { role: 'tool', tool_call_id: `t${task}`, content: result(task) },
      ])],
    }),
    heard: (answer) => commandIn(at(answer, 'choices.0.message.tool_calls.0.function.arguments'), at(answer, 'choices.0.message.content')),
    streamed: (events) => commandIn(all(events, 'choices.0.delta.tool_calls.0.function.arguments'), all(events, 'choices.0.delta.content')),
  },
  'OpenAI Responses': {
    path: () => '/v1/responses',
    key: (key) => ({ authorization: `Bearer ${key}` }),
    body: (done, stream) => ({
      model: 'm', stream, instructions: 'be brief', tools: [{ type: 'function', name: 'exec_command' }],
      input: [{ type: 'message', role: 'user', content: [{ type: 'input_text', text: prompt }] }, ...upTo(done, (task) => [
        { type: 'function_call', call_id: `t${task}`, name: 'exec_command', arguments: '{}' },
        { type: 'function_call_output', call_id: `t${task}`, output: result(task) },
      ])],
    }),
    heard: (answer) => commandIn(at(answer, 'output.0.arguments'), at(answer, 'output.0.content.0.text')),
    streamed: (events) => (all(events, 'type').includes('function_call_arguments') ? commandIn(all(events, 'delta'), '') : all(events, 'delta')),
  },
  Gemini: {
    path: (stream) => `/v1beta/models/m:${stream ? 'streamGenerateContent?alt=sse' : 'generateContent'}`,
    key: (key) => ({ 'x-goog-api-key': key }),
    body: (done) => ({
      tools: [{ functionDeclarations: [{ name: 'run_shell_command' }] }],
      contents: [{ role: 'user', parts: [{ text: prompt }] }, ...upTo(done, (task) => [
        { role: 'model', parts: [{ functionCall: { name: 'run_shell_command', args: {} } }] },
        { role: 'user', parts: [{ functionResponse: { name: 'run_shell_command', response: { output: result(task) } } }] },
      ])],
    }),
    heard: (answer) => at(answer, 'candidates.0.content.parts.0.text') + at(answer, 'candidates.0.content.parts.0.functionCall.args.command'),
    streamed: (events) => all(events, 'candidates.0.content.parts.0.text') + all(events, 'candidates.0.content.parts.0.functionCall.args.command'),
  },
}
function all(events: readonly unknown[], path: string): string {
  return events.map((event) => at(event, path)).join('')
}

describe.each(Object.entries(clients))('%s', (_name, client) => {
  const post = (done: number, stream: boolean, key = server.apiKey) =>
    fetch(`${server.url}${client.path(stream)}`, { method: 'POST', headers: { ...client.key(key), 'content-type': 'application/json' }, body: JSON.stringify(client.body(done, stream)) })

  it.each([false, true])('has each task done in turn, and says when all are (streamed: %s)', async (stream) => {
    const heard: string[] = []
    for (const done of [0, 1, 2]) {
      const response = await post(done, stream)
      expect(response.status).toBe(200)
      if (!stream) {
        heard.push(client.heard(await response.json()))
        continue
      }
      expect(response.headers.get('content-type')).toBe('text/event-stream')
      const events = [...(await response.text()).matchAll(/^data: (\{.*)$/gm)].map(([, data = '']) => JSON.parse(data) as unknown)
      heard.push(client.streamed(events))
    }
    expect(heard[0]).toContain('echo one > one.txt')
    expect(heard[1]).toContain('echo two')
    expect(heard[2]).toBe('All 2 tasks are done.')
    expect(server.turns().map(({ turn, answers }) => [turn, answers])).toEqual([[1, 1], [2, 1], [3, 1]])
  })

  it('charges a turn that is asked for again, and only once what a conversation began with before', async () => {
    for (const done of [0, 1, 0]) await (await post(done, false)).text()
    const [first, second] = server.turns()
    expect(first).toMatchObject({ turn: 1, answers: 2 })
    expect(second).toMatchObject({ turn: 2, answers: 1 })
    const [whole, , again] = server.requests.map(({ usage }) => usage)
    expect(whole!.cachedTokens).toBe(0)
    expect(again).toEqual({ ...whole, cachedTokens: whole!.inputTokens })
    expect(second!.cachedTokens).toBeGreaterThanOrEqual(whole!.inputTokens)
    expect(second!.inputTokens).toBeGreaterThan(second!.cachedTokens)
  })

  it('lets nobody in without the key, and says what is wrong with a request', async () => {
    expect((await post(0, false, 'another')).status).toBe(401)
    const bad = await fetch(`${server.url}${client.path(false)}`, { method: 'POST', headers: client.key(server.apiKey), body: '{"messages":3}' })
    expect(bad.status).toBe(400)
    expect(await bad.text()).toMatch(/messages|input|contents/)
    expect(server.requests).toEqual([])
  })
})

describe('the model', () => {
  const user = (text: string): Message => ({ role: 'user', text, calls: [] })
  const tool = (text: string): Message => ({ role: 'tool', text, calls: [] })
  const ask = (messages: Message[], tools = ['Bash']) => answerTo({ model: 'm', stream: false, system: '', messages, tools })

  it('finds the tasks in what users said, and takes only a result’s word that one is done', () => {
    expect(tasksIn([user('x\ntask 2: b\ntask 1: a'), { role: 'assistant', text: 'task 3: c', calls: [] }, user('task 1: other\ntask 5: e')])).toEqual(['a', 'b'])
    expect([...doneIn([user('[task 1 done]'), tool('[task 2 done]')])]).toEqual([2])
  })
  it('asks again for a task that was broken off, and goes on with the next one afterwards', () => {
    expect(ask([user(prompt), tool('[task 1 done]'), user('You were interrupted; go on')])).toMatchObject({ purpose: { turn: 2 }, answer: { call: { name: 'Bash' } } })
  })
  it('is lost without the tasks, and answers questions beside the conversation', () => {
    expect(ask([user('You were interrupted; go on')]).purpose).toEqual({ kind: 'lost' })
    expect(ask([user(prompt)], []).purpose).toEqual({ kind: 'aside' })
  })
  it('gives up a task that fails three times in a row', () => {
    const failed = [user(prompt), tool('[task 1 done]'), tool('no'), tool('no')]
    expect(ask(failed).answer.call).toBeDefined()
    expect(ask([...failed, tool('no')]).answer).toEqual({ text: 'Task 2 failed 3 times; I give up.', call: undefined })
  })
})
