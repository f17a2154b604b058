/**
 * Counts the tokens that conversations cost, by turn. A token is four characters. As the services' caches do, it remembers every
 * beginning of a conversation that it was shown or has answered; of a request only what comes after the longest of these is new.
 */
import { createHash } from 'node:crypto'
import type { Answer, Conversation, Message, Usage } from './conversation.js'
import type { Purpose } from './obedient-model.js'

/** What one turn cost, all its requests together. */
export interface TurnCost {
  readonly turn: number
  /** How often an answer was made for it. */
  readonly answers: number
  readonly inputTokens: number
  readonly cachedTokens: number
  readonly outputTokens: number
}

export class TokenCount {
  private readonly seen = new Set<string>()
  private readonly byTurn = new Map<number, TurnCost>()

  /** Counts a request and its answer. */
  add({ messages, system, tools }: Conversation, answer: Answer, purpose: Purpose): Usage {
    let inputTokens = 0
    let cachedTokens = 0
    let beginning = ''
    // What the client tells the model beside the conversation comes before all of it.
    for (const message of [{ role: 'user', text: `${system}\n${tools.join()}`, calls: [] } as const, ...messages]) {
      beginning = after(beginning, message)
      inputTokens += tokensIn(message)
      if (this.seen.has(beginning)) cachedTokens += tokensIn(message)
      this.seen.add(beginning)
    }
    const outputTokens = tokensOf(answer.call === undefined ? answer.text : JSON.stringify(answer.call))
    this.seen.add(after(beginning, { role: 'assistant', text: answer.text, calls: answer.call === undefined ? [] : [{ id: '', name: answer.call.name }] }))
    const usage = { inputTokens, cachedTokens, outputTokens }
    if (purpose.kind === 'turn') {
      const { turn } = purpose
      const before = this.byTurn.get(turn) ?? { turn, answers: 0, inputTokens: 0, cachedTokens: 0, outputTokens: 0 }
      this.byTurn.set(turn, {
        turn,
        answers: before.answers + 1,
        inputTokens: before.inputTokens + inputTokens,
        cachedTokens: before.cachedTokens + cachedTokens,
        outputTokens: before.outputTokens + outputTokens,
      })
    }
    return usage
  }

  /** In the order of the turns. */
  turns(): TurnCost[] {
    return [...this.byTurn.values()].sort((left, right) => left.turn - right.turn)
  }
}

function tokensOf(text: string): number {
  return Math.ceil(text.length / 4)
}

function tokensIn(message: Message): number {
  return tokensOf(message.text) + tokensOf(message.calls.map(({ name }) => name).join())
}

/** Stands for a beginning with one more message. The ids of calls are the client's to change. */
function after(beginning: string, { role, text, calls }: Message): string {
  return createHash('sha256').update(JSON.stringify([beginning, role, text, calls.map(({ name }) => name)])).digest('base64')
}
