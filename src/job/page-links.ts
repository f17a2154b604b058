import { z } from 'zod'
import { InvalidInputError } from './errors.js'

/**
 * Where the git host's own pages are: templates in which `{repository}` and `{sha}` (of a commit), `{branch}` or `{base}` and `{sha}` (of a comparison)
 * stand for what is shown. What is put in is encoded, a repository's and a branch's slashes but not, and only https is linked to.
 */
export interface LinkTemplates {
  readonly commitUrl?: string | undefined
  readonly branchUrl?: string | undefined
  readonly compareUrl?: string | undefined
}

const fields = { commitUrl: ['repository', 'sha'], branchUrl: ['repository', 'branch'], compareUrl: ['repository', 'base', 'sha'] } as const

function template(field: keyof typeof fields) {
  const names = fields[field]
  return z
    .string({ error: 'must be a text' })
    .max(1_000, 'is longer than 1000 characters')
    .superRefine((text, context) => {
      const problem = problemOf(text, names)
      if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
    })
    .optional()
}

/** For the configuration. */
export const linkTemplates = {
  commitUrl: template('commitUrl').describe('A commit’s page at the git host, such as "https://git.example/{repository}/commit/{sha}".'),
  branchUrl: template('branchUrl').describe('A branch’s page, such as "https://git.example/{repository}/tree/{branch}".'),
  compareUrl: template('compareUrl').describe('The page of what a job has changed, such as "https://git.example/{repository}/compare/{base}...{sha}".'),
}

function problemOf(text: string, names: readonly string[]): string | undefined {
  const used = [...text.matchAll(/\{([^{}]*)\}/g)].map(([, name = '']) => name)
  const unknown = used.find((name) => !names.includes(name))
  if (unknown !== undefined) return `knows no {${unknown}}; there are ${names.map((name) => `{${name}}`).join(', ')}`
  const filled = text.replace(/\{[^{}]*\}/g, 'x')
  if (!URL.canParse(filled) || new URL(filled).protocol !== 'https:' || /[{}]/.test(filled)) return 'must be an https URL such as "https://git.example/{repository}/commit/{sha}"'
  const url = new URL(filled)
  if (url.username !== '' || url.password !== '') return 'holds a user name or a password; take it out'
  // What a job has named must not choose the host.
  if (/\{/.test(/^https:\/\/[^/?#]*/i.exec(text)?.[0] ?? '')) return 'has a part of the host that changes; name the host'
  return undefined
}

/** @throws InvalidInputError when a template is wrong. */
export function checkLinks(templates: LinkTemplates): LinkTemplates {
  for (const [field, names] of Object.entries(fields)) {
    const text = templates[field as keyof LinkTemplates]
    const problem = text === undefined ? undefined : problemOf(text, names)
    if (problem !== undefined) throw new InvalidInputError(`${field}: ${problem}`)
  }
  return templates
}

/** Links to what a job has made; null where there is no template, or nothing to link to. */
export class Links {
  constructor(private readonly templates: LinkTemplates = {}) {}

  commit(repository: string, sha: string | null): string | null {
    return sha === null ? null : fill(this.templates.commitUrl, { repository, sha })
  }

  branch(repository: string, branch: string | null): string | null {
    return branch === null ? null : fill(this.templates.branchUrl, { repository, branch })
  }

  compare(repository: string, base: string | null, sha: string | null): string | null {
    return base === null || sha === null ? null : fill(this.templates.compareUrl, { repository, base, sha })
  }
}

const longestUrl = 2_000

function fill(text: string | undefined, values: Readonly<Record<string, string>>): string | null {
  if (text === undefined) return null
  // Of a path: "." and ".." would be resolved, and lead elsewhere.
  if (Object.values(values).some((value) => value === '' || value.split('/').some((part) => part === '.' || part === '..'))) return null
  try {
    const url = text.replace(/\{([a-z]+)\}/g, (_whole, name: string) => (values[name] ?? '').split('/').map(encodeURIComponent).join('/'))
    return url.length <= longestUrl && new URL(url).protocol === 'https:' ? url : null
  } catch {
    // Half a character can't be encoded.
    return null
  }
}

/** A link that a result holds, such as a pull request's; null unless it leads to a web page. */
export function webLink(url: string): string | null {
  return URL.canParse(url) && /^https?:$/.test(new URL(url).protocol) ? url : null
}
