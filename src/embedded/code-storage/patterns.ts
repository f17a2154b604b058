import { ApiProblem } from './problem.js'

/** What a search with an expression of a client's may take of the processor, in seconds. */
export const patternCpuSeconds = 10

/**
 * @throws ApiProblem 400 for an expression that would take gigabytes to compile: nested repetitions of fixed numbers, such as
 * `((a{200}){200}){200}`, are written out by the C library.
 */
export function checkPattern(pattern: string, field: string): string {
  if (pattern.length > 1000) throw new ApiProblem(400, `${field}: is longer than 1000 characters`)
  if (/[\0\n]/.test(pattern)) throw new ApiProblem(400, `${field}: holds a NUL or a line break`)
  const product = [...pattern.matchAll(/\{(\d*),?(\d*)\\?\}/g)].reduce((size, [, from = '', to = '']) => size * Math.max(1, Number(from), Number(to)), 1)
  if (product > 1000) throw new ApiProblem(400, `${field}: repeats more than 1000 times; repeat less, or without a number`)
  return pattern
}
