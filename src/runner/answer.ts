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

/** @returns undefined when there is no whole answer with this nonce in `stdout`. */
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
      blobs.set(line.slice(0, -1), Buffer.from(lines.slice(index, stop).join(''), 'base64'))
      index = stop + 1
      continue
    }
    const space = line.indexOf(' ')
    if (space === -1) return undefined
    const name = line.slice(0, space)
    const value = line.slice(space + 1)
    if (name === 'fail') failure = value
    else fields.set(name, value)
  }
  return { failure, fields, blobs }
}

export function textField(answer: Answer, name: string): string {
  const value = answer.fields.get(name)
  if (value === undefined) throw new Error(`the runner's answer has no field "${name}"`)
  return value
}

export function numberField(answer: Answer, name: string): number {
  const value = Number(textField(answer, name))
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`the runner's answer has no number in "${name}"`)
  return value
}

/** The lines of a blob; none when the answer has no such blob. */
export function linesOf(answer: Answer, name: string): string[] {
  return (answer.blobs.get(name)?.toString('utf8') ?? '').split('\n').filter((line) => line !== '')
}
