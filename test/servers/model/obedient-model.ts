/**
 * A model that does what its prompt says, and knows nothing but the conversation that it is shown: so that whoever loses the
 * conversation starts at the beginning, and whoever brings it back goes on where it was.
 *
 * The prompt holds the tasks, one shell command each, in lines of their own: `task 1: echo one > one.txt`. The model has the
 * client's shell tool run them in turn. A task is done when a tool's result says so, and since every command is made to end with
 * `[task 1 done]`, a call that was broken off is not. It then asks for it again. A task that fails three times is given up.
 */
import type { Answer, Conversation, Message } from './conversation.js'

/** What an answer was about. */
export type Purpose =
  /** The task of this number; one more than there are tasks for the closing words. */
  | { readonly kind: 'turn'; readonly turn: number }
  /** A conversation in which there are no tasks: an agent that has forgotten what it was told. */
  | { readonly kind: 'lost' }
  /** What clients ask beside the conversation, without offering their shell: a title, who speaks next. */
  | { readonly kind: 'aside' }

const tries = 3

export function answerTo(conversation: Conversation): { readonly answer: Answer; readonly purpose: Purpose } {
  const shell = shellTool(conversation.tools)
  if (shell === undefined) return { answer: say('{"title":"Tasks","isNewTopic":false,"next_speaker":"user","reasoning":"none"}'), purpose: { kind: 'aside' } }
  const tasks = tasksIn(conversation.messages)
  if (tasks.length === 0) return { answer: say('I was given no tasks.'), purpose: { kind: 'lost' } }
  const done = doneIn(conversation.messages)
  const next = tasks.findIndex((_, index) => !done.has(index + 1))
  if (next === -1) return { answer: say(`All ${tasks.length} tasks are done.`), purpose: { kind: 'turn', turn: tasks.length + 1 } }
  const turn = next + 1
  if (failuresAtEnd(conversation.messages) >= tries) return { answer: say(`Task ${turn} failed ${tries} times; I give up.`), purpose: { kind: 'turn', turn } }
  // In a shell of its own, so that nothing in the command keeps the mark from meaning what it says.
  const command = `(\n${tasks[next] ?? ''}\n) && echo '[task ${turn} done]'`
  return { answer: { text: '', call: { name: shell, input: inputOf(shell, command) } }, purpose: { kind: 'turn', turn } }
}

function say(text: string): Answer {
  return { text, call: undefined }
}

/** The tasks that users gave, each number once: the first that was said. */
export function tasksIn(messages: readonly Message[]): string[] {
  const tasks = new Map<number, string>()
  for (const { role, text } of messages) {
    if (role !== 'user') continue
    for (const [, number = '', command = ''] of text.matchAll(/^\s*task (\d+): (.+)$/gm)) {
      if (!tasks.has(Number(number))) tasks.set(Number(number), command.trim())
    }
  }
  const whole: string[] = []
  for (let number = 1; tasks.has(number); number += 1) whole.push(tasks.get(number) ?? '')
  return whole
}

/** The numbers of the tasks that a tool's result calls done. */
export function doneIn(messages: readonly Message[]): ReadonlySet<number> {
  const results = messages.filter(({ role }) => role === 'tool')
  return new Set(results.flatMap(({ text }) => [...text.matchAll(/\[task (\d+) done\]/g)].map(([, number]) => Number(number))))
}

/** How many results in a row, the last ones, call nothing done. */
function failuresAtEnd(messages: readonly Message[]): number {
  const results = messages.filter(({ role }) => role === 'tool').reverse()
  const good = results.findIndex(({ text }) => /\[task \d+ done\]/.test(text))
  return good === -1 ? results.length : good
}

const shells = ['Bash', 'bash', 'run_shell_command', 'exec_command', 'shell_command', 'shell', 'local_shell']

function shellTool(tools: readonly string[]): string | undefined {
  return shells.find((name) => tools.includes(name))
}

/** A command as that client's tool takes it. */
function inputOf(tool: string, command: string): Readonly<Record<string, unknown>> {
  switch (tool) {
    case 'exec_command':
      return { cmd: command }
    case 'shell':
    case 'local_shell':
      return { command: ['bash', '-c', command] }
    case 'run_shell_command':
      return { command, is_background: false, description: 'do the next task' }
    case 'shell_command':
      return { command }
    default:
      return { command, description: 'do the next task' }
  }
}
