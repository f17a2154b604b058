import { StringDecoder } from 'node:string_decoder'
import type { LogLine } from '../job/log.js'
import { harmlessLine, harmlessText } from '../job/harmless-text.js'

/**
 * A job's output for a terminal: each line begins with its step's name and a bar, which what a job prints can't do without, and is made
 * harmless. Lines of Switchyard's own begin with `>>>` and have none.
 */
export class LogPrinter {
  readonly #open = new Map<string, { readonly decoder: StringDecoder; text: string }>()

  /** @returns the lines that are whole by now, with their line ends. */
  add({ step, stream, attempt, data }: Pick<LogLine, 'step' | 'stream' | 'attempt' | 'data'>): string {
    const key = `${attempt}\0${stream}\0${step}`
    const open = this.#open.get(key) ?? { decoder: new StringDecoder('utf8'), text: '' }
    this.#open.set(key, open)
    const lines = `${open.text}${open.decoder.write(Buffer.from(data))}`.split('\n')
    open.text = lines.pop() ?? ''
    // A line without end is shown in pieces rather than held.
    if (open.text.length > longestLine) {
      lines.push(open.text)
      open.text = ''
    }
    return lines.map((line) => shown(key, line)).join('')
  }

  /** @returns the lines that never got an end. */
  end(): string {
    const rest = [...this.#open].filter(([, { text }]) => text !== '').map(([key, { text }]) => shown(key, text))
    this.#open.clear()
    return rest.join('')
  }
}

const longestLine = 64 * 1024

function shown(key: string, line: string): string {
  const [, stream, step = ''] = key.split('\0')
  const text = harmlessText(line.replace(/\r$/, ''))
  if (stream === 'system') return `>>> ${text}\n`
  const name = harmlessLine(step)
  return `${name.startsWith('>') ? `"${name}"` : name} | ${text}\n`
}
