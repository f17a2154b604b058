/**
 * The files that a job leaves as artifacts: which patterns name them, and which paths may be theirs. Pure. What matches is decided twice: in
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

/** Whether a pattern names a path. No regular expression: whoever writes patterns must not be able to keep a consumer busy. */
export function isNamedBy(pattern: string, path: string): boolean {
  const wanted = pattern.split('/')
  const parts = path.split('/')
  return matches(parts, wanted, '**', isSamePart) || (namesFolder(pattern) && matches(parts, [...wanted, '**'], '**', isSamePart))
}

function isSamePart(part: string, wanted: string): boolean {
  return matches(Array.from(part), Array.from(wanted), '*', (character, expected) => expected === '?' || character === expected)
}

/** Whether a sequence is what is wanted, where `any` stands for any number of whatever; for one at least when it is `**` and comes last. */
function matches(sequence: readonly string[], wanted: readonly string[], any: string, isSame: (one: string, wanted: string) => boolean): boolean {
  let [at, next] = [0, 0]
  let [anyAt, resumeAt] = [-1, 0]
  while (at < sequence.length) {
    const expected = wanted[next]
    if (expected === any) {
      // As few as will do, and more whenever what comes after it does not fit.
      anyAt = next++
      resumeAt = at
      if (any === '**' && next === wanted.length) return true
    } else if (expected !== undefined && isSame(sequence[at] ?? '', expected)) {
      at++
      next++
    } else if (anyAt >= 0) {
      at = ++resumeAt
      next = anyAt + 1
    } else return false
  }
  while (any === '*' && wanted[next] === any) next++
  return next === wanted.length
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
