/** What the script answers; its form is described at the top of sh/base.sh. */
export interface Answer {
  /** Null when the call succeeded, else the keyword of its failure. */
  readonly failure: string | null
  readonly fields: ReadonlyMap<string, readonly string[]>
  readonly blobs: ReadonlyMap<string, Buffer>
}

/**
 * Reads an answer out of what a command printed.
 * @returns undefined when there is no whole answer to this nonce: the output was cut, or something else ran.
 */
export function parseAnswer(stdout: string, nonce: string): Answer | undefined {
  const lines = stdout.split(/\r?\n/)
  const begin = lines.lastIndexOf(`@switchyard ${nonce} begin`)
  const end = lines.indexOf(`@switchyard ${nonce} end`, begin)
  if (begin === -1 || end === -1) return undefined
  const fields = new Map<string, string[]>()
  const blobs = new Map<string, Buffer>()
  for (let at = begin + 1; at < end; at++) {
    const line = lines[at] ?? ''
    if (/^[a-z-]+:$/.test(line)) {
      const stop = lines.indexOf('.', at)
      if (stop === -1 || stop > end) return undefined
      blobs.set(line.slice(0, -1), Buffer.from(lines.slice(at + 1, stop).join(''), 'base64'))
      at = stop
      continue
    }
    const space = line.indexOf(' ')
    if (space === -1) return undefined
    const name = line.slice(0, space)
    fields.set(name, [...(fields.get(name) ?? []), line.slice(space + 1)])
  }
  return { failure: fields.get('fail')?.[0] ?? null, fields, blobs }
}

/** A field that the answer must have. @throws Error when it does not: the script and this client don't fit. */
export function textField(answer: Answer, name: string): string {
  const value = answer.fields.get(name)?.[0]
  if (value === undefined) throw new Error(`the runner's answer lacks "${name}"`)
  return value
}

export function numberField(answer: Answer, name: string): number {
  const value = Number(textField(answer, name))
  if (!Number.isSafeInteger(value)) throw new Error(`the runner's answer has no number in "${name}"`)
  return value
}
