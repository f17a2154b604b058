import { runnerScript } from './script.js'

/**
 * What the script answers: fields between two lines that bear the call's nonce (see ./sh/base.sh). What a login shell
 * prints around them is skipped; an answer without its last line was cut.
 */
export interface Answer {
  /** The keyword of a failure; undefined when the call succeeded. */
  readonly failure: string | undefined
  readonly fields: ReadonlyMap<string, string>
  readonly blobs: ReadonlyMap<string, Buffer>
}

/** A whole answer that says what the script never says: something in the sandbox answers in its place. Never leaves this folder. */
export class MalformedAnswer extends Error {}

/** What the script can say at most, by the names that it bears: whatever else is there was not said by it. */
const said = namesIn(runnerScript)
const mostFields = 64
const longestValue = 64 * 1024

/**
 * Everything in an answer comes out of the sandbox that the job's commands run in, so this file is the one place where it is read:
 * every field by its own pattern and range.
 * @returns undefined when there is no whole answer with this nonce in `stdout`.
 * @throws MalformedAnswer for names, repetitions and lengths that are never the script's.
 */
export function parseAnswer(stdout: string, nonce: string): Answer | undefined {
  const begin = `@switchyard ${nonce} begin`
  const end = `@switchyard ${nonce} end`
  const lines = stdout.split(/\r?\n/)
  // A prompt or a greeting without a newline may stand before it.
  const first = lines.findIndex((line) => line.endsWith(begin))
  const last = lines.indexOf(end, first + 1)
  if (first === -1 || last === -1) return undefined
  let failure: string | undefined
  const fields = new Map<string, string>()
  const blobs = new Map<string, Buffer>()
  let index = first + 1
  while (index < last) {
    const line = lines[index] ?? ''
    index += 1
    if (line.endsWith(':') && !line.includes(' ')) {
      const stop = lines.indexOf('.', index)
      if (stop === -1 || stop > last) return undefined
      const name = line.slice(0, -1)
      if (!said.blobs.has(name) || blobs.has(name)) throw new MalformedAnswer(`its bytes "${shown(name)}" are unknown or there twice`)
      blobs.set(name, decoded(name, lines.slice(index, stop).join('')))
      index = stop + 1
      continue
    }
    const space = line.indexOf(' ')
    if (space === -1) return undefined
    const name = line.slice(0, space)
    const value = line.slice(space + 1)
    if (value.length > longestValue || fields.size >= mostFields) throw new MalformedAnswer('it is too long')
    if (name === 'fail') failure ??= value
    else if (fields.has(name) || (name !== 'ok' && !said.fields.has(name))) throw new MalformedAnswer(`its field "${shown(name)}" is unknown or there twice`)
    else fields.set(name, value)
  }
  return { failure, fields, blobs }
}

/** Node skips what is no base64, so bytes that were garbled would be taken for fewer, or others. */
function decoded(name: string, text: string): Buffer {
  const bytes = Buffer.from(text, 'base64')
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0
  if (bytes.length !== (text.length / 4) * 3 - padding) throw new MalformedAnswer(`its bytes "${shown(name)}" are not whole`)
  return bytes
}

function namesIn(script: string): { readonly fields: ReadonlySet<string>; readonly blobs: ReadonlySet<string> } {
  const named = (word: string) => [...script.matchAll(new RegExp(`(?<![\\w-])${word} "?(\\$1)?(-?[a-z][a-z-]*)`, 'g'))].flatMap(([, stream, name = '']) => (stream === undefined ? [name] : [`out${name}`, `err${name}`]))
  return { fields: new Set(named('field')), blobs: new Set([...named('blob'), 'out', 'err']) }
}

function shown(name: string): string {
  return name.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 40)
}

/** A field that fits a pattern. */
export function textField(answer: Answer, name: string, pattern: RegExp): string {
  const value = answer.fields.get(name)
  if (value === undefined) throw new MalformedAnswer(`its field "${name}" is missing`)
  if (!pattern.test(value)) throw new MalformedAnswer(`its field "${name}" is not what it should be`)
  return value
}

/** A whole number from 0 to `most`. */
export function numberField(answer: Answer, name: string, most: number = Number.MAX_SAFE_INTEGER): number {
  const value = Number(textField(answer, name, /^[0-9]{1,16}$/))
  if (!Number.isSafeInteger(value) || value > most) throw new MalformedAnswer(`its field "${name}" is out of range`)
  return value
}

/** The lines of a blob; none when the answer has no such blob. */
export function linesOf(answer: Answer, name: string): string[] {
  return (answer.blobs.get(name)?.toString('utf8') ?? '').split('\n').filter((line) => line !== '')
}

/** A commit's or a pack's name. */
export function shaField(answer: Answer, name: string): string {
  return textField(answer, name, /^[0-9a-f]{40}$/)
}

/** How many commits a job can have made: more is not counted, but made up. */
export const mostCommits = 1_000_000
/** How large what a job is to save can be, in bytes: no sandbox holds more. */
export const mostBytes = 2 ** 40
