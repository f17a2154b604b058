import { readFileSync } from 'node:fs'

/** A fenced block of a document. */
export interface FencedBlock {
  readonly document: string
  readonly line: number
  /** `sh`, `ts`, `json`, … */
  readonly language: string
  /** What follows the language on the fence: `job`, `config`. */
  readonly tag: string
  readonly text: string
}

/** The fenced blocks of a Markdown file, in order. */
export function fencedBlocks(document: string): FencedBlock[] {
  const blocks: FencedBlock[] = []
  let open: { line: number; language: string; tag: string; lines: string[] } | undefined
  for (const [index, line] of readFileSync(document, 'utf8').split('\n').entries()) {
    const fence = /^```(\w*) ?(.*)$/.exec(line)
    if (fence === null) open?.lines.push(line)
    else if (open === undefined) open = { line: index + 1, language: fence[1] ?? '', tag: fence[2] ?? '', lines: [] }
    else {
      blocks.push({ document, line: open.line, language: open.language, tag: open.tag, text: `${open.lines.join('\n')}\n` })
      open = undefined
    }
  }
  if (open !== undefined) throw new Error(`${document}:${open.line}: the block is not closed`)
  return blocks
}
