import { createHash } from 'node:crypto'

export type Mode = '100644' | '100755' | '120000'
/** By path: mode and git's object name of the content. */
export type TreeEntries = ReadonlyMap<string, { readonly mode: Mode; readonly blob: string }>

/** A tree of files as git sees it, for saying what a job must leave behind. */
export class Tree {
  private readonly files: Map<string, { mode: Mode; blob: string }>

  constructor(from: TreeEntries = new Map()) {
    this.files = new Map(from)
  }

  write(path: string, content: string | Buffer, executable = false): this {
    return this.put(path, executable ? '100755' : '100644', Buffer.from(content))
  }

  link(path: string, target: string): this {
    return this.put(path, '120000', Buffer.from(target))
  }

  remove(path: string): this {
    this.files.delete(path)
    return this
  }

  entries(): TreeEntries {
    return new Map(this.files)
  }

  private put(path: string, mode: Mode, content: Buffer): this {
    this.files.set(path, { mode, blob: createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex') })
    return this
  }
}

/** What differs, one line a path; empty when nothing does. */
export function treeDifferences(actual: TreeEntries, expected: TreeEntries): string[] {
  const show = (entry: { mode: Mode; blob: string } | undefined) => (entry === undefined ? 'nothing' : `${entry.mode} ${entry.blob.slice(0, 12)}`)
  return [...new Set([...actual.keys(), ...expected.keys()])]
    .sort()
    .filter((path) => show(actual.get(path)) !== show(expected.get(path)))
    .map((path) => `${JSON.stringify(path)} is ${show(actual.get(path))}, must be ${show(expected.get(path))}`)
}
