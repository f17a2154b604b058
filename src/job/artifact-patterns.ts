import { setImmediate } from 'node:timers/promises'

/**
 * The files that a job leaves as artifacts: which patterns name them, and which paths may be theirs. What matches is decided twice: in
 * the sandbox, where a million other files need not come out, and here, because nothing that comes out of there is trusted.
 */

/** How many patterns a job may have. */
export const maxArtifactPatterns = 50
/** An object's key in S3 is at most 1024 bytes, and what stands before the path needs its part. */
const longestPathBytes = 512
/** File systems take no longer names. */
const longestNameBytes = 255

/**
 * Whether a pattern may name artifacts.
 * @returns the problem as half a sentence with its mend, or undefined when it may.
 */
export function artifactPatternProblem(pattern: string): string | undefined {
  if (pattern === '') return 'is empty; name a file, a folder or a pattern such as "coverage/**"'
  if (/\p{Cc}/u.test(pattern)) return 'holds a control character'
  if (Buffer.byteLength(pattern) > longestPathBytes) return `is longer than ${longestPathBytes} bytes`
  if (pattern.startsWith('/')) return 'is absolute; write it relative to the repository'
  if (pattern.startsWith('~/') || pattern === '~') return 'is in the home; artifacts lie in the repository, so have a step copy it there'
  if (/[[\]{}\\]/.test(pattern) || pattern.startsWith('!')) return 'holds one of [ ] { } \\ or begins with "!"; "*", "?" and "**" are what patterns know, so write a pattern for each'
  const parts = partsOf(pattern)
  if (parts.includes('..')) return 'holds ".."; artifacts lie in the repository'
  if (parts.length === 0) return 'is the whole repository; name the files or folders in it'
  if (parts.some((part) => part.toLowerCase() === '.git')) return 'leads into git’s own folder; name what lies beside it'
  if (parts.some((part) => part.includes('**') && part !== '**')) return 'has "**" beside other characters; it stands for whole folders, as in "coverage/**/*.xml"'
  return undefined
}

/** A pattern as it is looked for: without empty parts, `.` and a slash at its end. */
export function plainArtifactPattern(pattern: string): string {
  return partsOf(pattern).join('/')
}

function partsOf(pattern: string): string[] {
  return pattern.split('/').filter((part) => part !== '' && part !== '.')
}

/** Where a pattern's files can be: its folders before the first one with a wildcard; empty for the repository itself. */
export function literalPart(pattern: string): string {
  const parts = pattern.split('/')
  const wild = parts.findIndex((part) => /[*?]/.test(part))
  return (wild === -1 ? parts : parts.slice(0, wild)).join('/')
}

/**
 * A pattern as an extended regular expression for awk in the C locale, where a character of many bytes is as many: it may match a
 * little more than the pattern. The name of a folder stands for all in it.
 */
export function artifactExpression(pattern: string): string {
  const parts = pattern.split('/')
  const last = parts.length - 1
  const text = parts.map((part, index) => {
    if (part === '**') return index === last ? '.+' : '([^/]+/)*'
    const inner = part.replace(/[.^$+()|*?]/g, (character) => inExpression[character] ?? `[${character}]`)
    return index === last ? inner : `${inner}/`
  })
  return `^${text.join('')}${namesFolder(pattern) ? '(/.*)?' : ''}$`
}

const inExpression: Readonly<Record<string, string>> = { '*': '[^/]*', '?': '[^/][^/]?[^/]?[^/]?', '^': '\\^' }

/** Without a wildcard at its end it may be a folder's name. */
function namesFolder(pattern: string): boolean {
  return !/[*?]/.test(pattern.slice(pattern.lastIndexOf('/') + 1))
}

/**
 * The paths that some patterns name. No regular expression: whoever writes patterns must not be able to keep a consumer busy. Patterns and names are both
 * the job's, and there are many of them, so that comparing them goes on in turns: in between, the process sees to everything else.
 */
export class NamedPaths {
  readonly #matchers: readonly (readonly [pattern: string, matches: Matcher])[]
  #turnEndsAtMs = performance.now() + turnMs

  /** @param signal ends the comparing. */
  constructor(
    patterns: readonly string[],
    private readonly signal?: AbortSignal,
  ) {
    this.#matchers = patterns.map((pattern) => [pattern, pathMatcher(pattern)])
  }

  /** Whether one of them names a path. @throws the signal's reason. */
  async has(path: string): Promise<boolean> {
    return (await this.#first(path, 1)).length > 0
  }

  /** All that name a path. @throws the signal's reason. */
  async patternsOf(path: string): Promise<string[]> {
    return await this.#first(path, this.#matchers.length)
  }

  async #first(path: string, most: number): Promise<string[]> {
    const found: string[] = []
    for (const [pattern, matches] of this.#matchers) {
      if (performance.now() >= this.#turnEndsAtMs) {
        await setImmediate()
        this.signal?.throwIfAborted()
        this.#turnEndsAtMs = performance.now() + turnMs
      }
      if (matches(path)) found.push(pattern)
      if (found.length === most) break
    }
    return found
  }
}

/** How long is compared before others have their turn. */
const turnMs = 10

type Matcher = (text: string) => boolean

/** Whether a pattern names a path. */
export function isNamedBy(pattern: string, path: string): boolean {
  return pathMatcher(pattern)(path)
}

function pathMatcher(pattern: string): Matcher {
  const wanted = pattern.split('/').map((part) => (part === '**' ? part : partMatcher(part)))
  const within = namesFolder(pattern) ? [...wanted, '**' as const] : undefined
  return (path) => {
    const parts = path.split('/')
    return matchesParts(parts, wanted) || (within !== undefined && matchesParts(parts, within))
  }
}

/** Whether the parts of a path are what is wanted, where `**` stands for any number of whatever; for one at least when it comes last. */
function matchesParts(parts: readonly string[], wanted: readonly (Matcher | '**')[]): boolean {
  let [at, next] = [0, 0]
  let [anyAt, resumeAt] = [-1, 0]
  while (at < parts.length) {
    const expected = wanted[next]
    if (expected === '**') {
      // As few as will do, and more whenever what comes after it does not fit.
      anyAt = next++
      resumeAt = at
      if (next === wanted.length) return true
    } else if (expected?.(parts[at] ?? '') === true) {
      at++
      next++
    } else if (anyAt >= 0) {
      at = ++resumeAt
      next = anyAt + 1
    } else return false
  }
  return next === wanted.length
}

/** One part of a path: of what stands between the stars, the first has to begin it and the last to end it; each of the others comes as early as it can. */
function partMatcher(wanted: string): Matcher {
  const pieces = wanted.split(/\*+/)
  const [first = '', last = ''] = [pieces[0], pieces.at(-1)]
  if (!/[*?]/.test(wanted)) return (part) => part === wanted
  if (pieces.length === 1) return (part) => endOf(part, 0, first) === part.length
  const between = pieces.slice(1, -1)
  return (part) => {
    let at = endOf(part, 0, first)
    for (const piece of between) at = at === -1 ? -1 : endOfNext(part, at, piece)
    return at !== -1 && beginningOf(part, last) >= at
  }
}

/** Where a piece ends that stands at a place; -1 when it does not. A "?" is a character, whether it takes one unit or two. */
function endOf(part: string, from: number, piece: string): number {
  if (!piece.includes('?')) return part.startsWith(piece, from) ? from + piece.length : -1
  let at = from
  for (let index = 0; index < piece.length; index++, at++) {
    if (at >= part.length) return -1
    if (piece.charCodeAt(index) !== questionMark) {
      if (piece.charCodeAt(index) !== part.charCodeAt(at)) return -1
    } else if (isFirstHalf(part, at)) at++
  }
  return at
}

function endOfNext(part: string, from: number, piece: string): number {
  if (!piece.includes('?')) {
    const found = part.indexOf(piece, from)
    return found === -1 ? -1 : found + piece.length
  }
  for (let at = from; at < part.length; at += isFirstHalf(part, at) ? 2 : 1) {
    const end = endOf(part, at, piece)
    if (end !== -1) return end
  }
  return -1
}

/** Where a piece begins with which a part ends; -1 when it does not. */
function beginningOf(part: string, piece: string): number {
  if (!piece.includes('?')) return part.endsWith(piece) ? part.length - piece.length : -1
  let at = part.length
  for (let index = piece.length - 1; index >= 0; index--) {
    at--
    if (at < 0) return -1
    if (piece.charCodeAt(index) !== questionMark) {
      if (piece.charCodeAt(index) !== part.charCodeAt(at)) return -1
    } else if (at > 0 && isFirstHalf(part, at - 1)) at--
  }
  return at
}

const questionMark = 0x3f

/** Whether a character of two units begins there. */
function isFirstHalf(text: string, at: number): boolean {
  return (text.charCodeAt(at) & 0xfc00) === 0xd800 && (text.charCodeAt(at + 1) & 0xfc00) === 0xdc00
}

/**
 * Whether a path, as a sandbox or a git host gives it, may be an artifact's name: a part of a folder's path and of an object's key.
 * @returns a clause on why not, or undefined when it may.
 */
export function artifactPathProblem(path: string): string | undefined {
  if (/[\p{Cc}\p{Cs}\ufffd\u2028\u2029]/u.test(path)) return 'its name holds a control character, a line break or bytes that are no UTF-8'
  if (/\p{Bidi_Control}/u.test(path)) return 'its name holds a mark that turns text around'
  if (Buffer.byteLength(path) > longestPathBytes) return `its path is longer than ${longestPathBytes} bytes`
  const parts = path.split('/')
  if (parts.some((part) => part === '' || part === '.' || part === '..')) return 'its path leads out of the repository, or is none'
  if (parts.some((part) => part.toLowerCase() === '.git')) return 'it lies in git’s own folder'
  if (parts.some((part) => Buffer.byteLength(part) > longestNameBytes)) return `a part of its path is longer than ${longestNameBytes} bytes`
  return undefined
}
