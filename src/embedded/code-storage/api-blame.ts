import type { Hono } from 'hono'
import { z } from 'zod'
import { filePath, queryFlag, queryValues, readQuery, repositoryOf, type ApiEnvironment, type ApiServices } from './request.js'
import { checkPattern, patternCpuSeconds } from './patterns.js'
import { ApiProblem } from './problem.js'

const blameQuery = z.object({ path: z.string().min(1), ref: z.string().optional(), ephemeral: queryFlag, detect_moves: queryFlag })
const maxRanges = 16

/** Who wrote each line of a file. */
export function blameRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.get('/repository/blame', async (context) => {
    const { repository, refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, blameQuery)
    const sha = await refs.named(query.ref, query.ephemeral, 'ref')
    const path = filePath(query.path)
    const [entry = ''] = (await refs.run(['--literal-pathspecs', 'ls-tree', '-z', '--full-tree', sha, '--', path])).split('\0')
    if (!/^\d+ blob /.test(entry)) throw new ApiProblem(404, `path: "${path}" is not a file at ${query.ref ?? 'the default branch'}`)
    const ranges = queryValues(context, 'range')
    if (ranges.length > maxRanges) throw new ApiProblem(400, `range: is given more than ${maxRanges} times`)
    const limits = ranges.map((range) => `-L${checkPattern(range, 'range')}`)
    const outcome = await services.store.git(repository, ['blame', '--line-porcelain', ...limits, ...(query.detect_moves ? ['-M', '-C'] : []), sha, '--', path], {
      maxOutputBytes: 64 * 1024 * 1024,
      cpuSeconds: patternCpuSeconds,
    })
    if (outcome.outOfCpu || outcome.truncated || outcome.timedOut) throw new ApiProblem(400, 'path: is too large to be blamed whole; ask for a range')
    if (outcome.exitCode !== 0) throw new ApiProblem(400, `range: ${outcome.stderr.trim().split('\n')[0]?.slice(0, 200) ?? ''}`)
    return context.json({ ref: query.ref ?? (await refs.defaultBranch()), path, commit_sha: sha, lines: parseBlame(outcome.stdout.toString('utf8')) })
  })
}

/** Reads `git blame --line-porcelain`: for each line a header, fields, and the line behind a tab. */
export function parseBlame(output: string) {
  const lines: object[] = []
  let fields = new Map<string, string>()
  let header: string[] | undefined
  for (const line of output.split('\n')) {
    if (header === undefined) {
      if (line !== '') header = line.split(' ')
    } else if (line.startsWith('\t')) {
      const [sha = '', original = '', number = ''] = header
      const field = (name: string) => fields.get(name) ?? ''
      const previous = fields.get('previous')?.split(' ')[0]
      lines.push({
        line_number: Number(number),
        commit_sha: sha,
        original_line_number: Number(original),
        original_path: field('filename'),
        ...(previous === undefined ? {} : { previous_commit_sha: previous }),
        ...person(field, 'author'),
        ...person(field, 'committer'),
        summary: field('summary'),
      })
      header = undefined
      fields = new Map()
    } else {
      const space = line.indexOf(' ')
      fields.set(space === -1 ? line : line.slice(0, space), space === -1 ? '' : line.slice(space + 1))
    }
  }
  return lines
}

function person(field: (name: string) => string, who: 'author' | 'committer') {
  const time = Number(field(`${who}-time`))
  return {
    [`${who}_name`]: field(who),
    [`${who}_email`]: field(`${who}-mail`).replace(/^<|>$/g, ''),
    // Before 1970, or after what a date can hold, a commit may say it was made: no reason to fail.
    [`${who}_time`]: Number.isFinite(time) && Math.abs(time) < 8.64e12 ? new Date(time * 1000).toISOString() : new Date(0).toISOString(),
  }
}
