import { errorCodes, InvalidInputError, jobErrorKinds } from '../job/errors.js'
import { didYouMean } from '../job/nearest-name.js'
import { sinceOf } from '../job/since.js'
import type { ListOptions } from './job-pages.js'

/** Which jobs are meant, as `list` takes it. */
export type JobFilter = Pick<ListOptions, 'state' | 'repository' | 'since' | 'error'> & { readonly tenant?: string | undefined }

const states = ['waiting', 'running', 'parked', 'succeeded', 'failed', 'cancelled'] as const
const fields = ['state', 'tenant', 'repository', 'since', 'error'] as const
type Field = (typeof fields)[number]

/** `name=value`, where a value may be quoted; what else stands there is one bad part. */
const part = /([^\s="]+)=(?:"([^"]*)"|([^\s"]*))(?=\s|$)|(\S+)/g

/**
 * Reads which jobs are meant: `state=failed tenant=acme since=2h error=provider-down`, all of which must hold.
 * @param nowMs what `since=2h` counts from, in milliseconds since 1970.
 * @throws InvalidInputError with a sentence for every mistake.
 */
export function parseWhere(text: string, nowMs: number): JobFilter {
  const problems: string[] = []
  const found = new Map<Field, string>()
  for (const [whole, name, quoted, bare] of text.slice(0, longest).matchAll(part)) {
    const field = fields.find((each) => each === name)
    const value = quoted ?? bare ?? ''
    if (name === undefined) problems.push(`where: "${whole}" is not of the form name=value, such as tenant=acme`)
    else if (field === undefined) problems.push(`where: "${name}" is not known${didYouMean(name, fields)}; known are ${fields.join(', ')}`)
    else if (found.has(field)) problems.push(`where: ${field} is given twice; give it once`)
    else if (value === '') problems.push(`where: ${field} has no value; write ${field}=value, or leave it out`)
    else {
      found.set(field, value)
      const problem = problemOf(field, value, nowMs)
      if (problem !== undefined) problems.push(problem)
    }
  }
  if (text.length > longest) problems.push(`where: is longer than ${longest} characters`)
  if (found.size === 0 && problems.length === 0) problems.push('where: is empty; say which jobs, such as "state=failed tenant=acme since=2h"')
  if (problems[0] !== undefined) throw new InvalidInputError(problems[0], problems)
  const since = found.get('since')
  return {
    state: states.find((state) => state === found.get('state')),
    tenant: found.get('tenant'),
    repository: found.get('repository'),
    error: found.get('error'),
    since: since === undefined ? undefined : sinceOf(since, nowMs, 'where: since'),
  }
}

const longest = 2_000

function problemOf(field: Field, value: string, nowMs: number): string | undefined {
  switch (field) {
    case 'state':
      return (states as readonly string[]).includes(value) ? undefined : `where: state: "${value}" must be one of ${states.join(', ')}${didYouMean(value, states)}`
    case 'error': {
      const known: readonly string[] = [...jobErrorKinds, ...errorCodes]
      return known.includes(value) ? undefined : `where: error: "${value}" is neither a kind nor a code of error${didYouMean(value, known)}; kinds are ${jobErrorKinds.join(', ')}, codes are listed in docs/errors.md`
    }
    case 'since':
      try {
        sinceOf(value, nowMs, 'where: since')
        return undefined
      } catch (error) {
        return error instanceof Error ? error.message : String(error)
      }
    case 'tenant':
    case 'repository':
      return undefined
  }
}
