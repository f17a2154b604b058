import type { Hono } from 'hono'
import { z } from 'zod'
import { gitText, readBody, repositoryOf, repositoryPath, type ApiEnvironment, type ApiServices } from './request.js'
import { checkPattern, patternCpuSeconds } from './patterns.js'
import { ApiProblem } from './problem.js'

const count = (most: number) => z.number().int().min(0).transform((value) => Math.min(value, most))
const texts = z.array(gitText(500).min(1)).max(100).default([])
const grepBody = z.object({
  ref: z.string().optional(),
  ephemeral: z.boolean().default(false),
  paths: texts,
  query: z.object({ pattern: z.string().min(1), case_sensitive: z.boolean().default(true) }),
  file_filters: z.object({ include_globs: texts, exclude_globs: texts, extension_filters: texts }).prefault({}),
  context: z.object({ before: count(100).default(0), after: count(100).default(0) }).prefault({}),
  limits: z.object({ max_lines: count(10_000).default(1000), max_matches_per_file: count(10_000).optional() }).prefault({}),
  pagination: z.object({ cursor: z.string().optional(), limit: count(1000).default(100) }).prefault({}),
})
const maxOutputBytes = 16 * 1024 * 1024

interface Line {
  readonly line_number: number
  readonly text: string
  readonly type: 'match' | 'context'
}

/** Search the files of a commit. The pattern is an extended POSIX expression; files that are binary are left out. */
export function searchRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.post('/repository/grep', async (context) => {
    const { repository, refs } = await repositoryOf(context, services, 'git:read')
    const body = await readBody(context, grepBody, { rev: 'ref' })
    const { query, file_filters: filters, limits, pagination } = body
    const sha = await refs.named(body.ref, body.ephemeral, 'ref')
    const under = body.paths.map(repositoryPath)
    const extensions = filters.extension_filters.map((extension) => (extension.startsWith('.') ? extension : `.${extension}`))
    const options = [
      ...(query.case_sensitive ? [] : ['--ignore-case']),
      `--before-context=${body.context.before}`,
      `--after-context=${body.context.after}`,
      ...(limits.max_matches_per_file === undefined ? [] : [`--max-count=${limits.max_matches_per_file}`]),
    ]
    const outcome = await services.store.git(
      repository,
      ['grep', '-z', '-n', '--column', '-I', '--full-name', '--no-color', '--threads=1', ...options, '-E', '-e', checkPattern(query.pattern, 'query.pattern'), sha, '--', ...globs(filters.include_globs, filters.exclude_globs)],
      { maxOutputBytes, cpuSeconds: patternCpuSeconds },
    )
    if (outcome.outOfCpu || outcome.timedOut) throw new ApiProblem(400, `query.pattern: takes more than ${patternCpuSeconds} seconds of the processor; look for less`)
    if (!outcome.truncated && outcome.exitCode !== 0 && outcome.exitCode !== 1) throw new ApiProblem(400, `${/pathspec|outside/.test(outcome.stderr) ? 'file_filters' : 'query.pattern'}: ${outcome.stderr.trim().split('\n')[0]?.slice(0, 200) ?? ''}`)
    const found = [...parseGrep(outcome.stdout.toString('utf8'), `${sha}:`)].filter(
      ({ path }) => (under.length === 0 || under.some((folder) => folder === '' || path === folder || path.startsWith(`${folder}/`))) && (extensions.length === 0 || extensions.some((extension) => path.endsWith(extension))),
    )
    // The last file may be cut off.
    if (outcome.truncated) found.pop()
    const rest = found.filter(({ path }) => pagination.cursor === undefined || Buffer.compare(Buffer.from(path), Buffer.from(pagination.cursor)) > 0)
    const matches: typeof rest = []
    let lines = 0
    for (const file of rest) {
      if (matches.length >= pagination.limit || lines >= limits.max_lines) break
      matches.push({ path: file.path, lines: file.lines.slice(0, limits.max_lines - lines) })
      lines += file.lines.length
    }
    const hasMore = matches.length < rest.length || outcome.truncated
    return context.json({
      query: { pattern: query.pattern, case_sensitive: query.case_sensitive },
      repo: { ref: body.ref ?? (await refs.defaultBranch()), commit: sha },
      matches,
      has_more: hasMore,
      next_cursor: hasMore ? (matches.at(-1)?.path ?? null) : null,
    })
  })
}

/** Globs as git's pathspecs: a star matches slashes too, so that `*.ts` is all of them. */
export function globs(include: readonly string[], exclude: readonly string[]): string[] {
  return [...include.map((glob) => `:(top)${glob}`), ...exclude.map((glob) => `:(top,exclude)${glob}`)]
}

/**
 * Reads `git grep -z -n --column` of one commit: path, number, of a match its column, text, with NULs between (older git: `:` and `-` behind
 * the numbers); lines of `--` in between.
 */
export function* parseGrep(output: string, prefix: string): Generator<{ path: string; lines: Line[] }> {
  let file: { path: string; lines: Line[] } | undefined
  let position = 0
  while (position < output.length) {
    const end = output.indexOf('\0', position)
    if (end === -1) break
    const name = output.slice(position, end).replace(/^(?:--\n)+/, '')
    const [all = '', number = '', , column] = /^(\d+)([:\-\0])(?:(\d+)\2)?/.exec(output.slice(end + 1, end + 42)) ?? []
    const start = end + 1 + all.length
    const stop = output.indexOf('\n', start)
    const path = name.startsWith(prefix) ? name.slice(prefix.length) : name
    if (file?.path !== path) {
      if (file !== undefined) yield file
      file = { path, lines: [] }
    }
    file.lines.push({ line_number: Number(number), text: output.slice(start, stop === -1 ? undefined : stop), type: column === undefined ? 'context' : 'match' })
    position = stop === -1 ? output.length : stop + 1
  }
  if (file !== undefined) yield file
}
