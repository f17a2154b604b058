import { randomUUID } from 'node:crypto'
import type { Hono } from 'hono'
import { z } from 'zod'
import { branchNameProblem } from '../../job/names.js'
import { fullSha, gitText, identity, identityVariables, pageLimit, pageOf, readBody, readQuery, repositoryOf, type ApiContext, type ApiEnvironment, type ApiServices } from './request.js'
import { ApiProblem } from './problem.js'
import { enforcePolicy, zeroSha, type Refs } from './refs.js'

const readQueryOf = z.object({ object_ref: z.string().min(1), notes_ref: z.string().optional() })
const listQuery = z.object({ prefix: z.string().default(''), cursor: z.string().optional(), limit: pageLimit() })
const common = { object_ref: z.string().min(1), notes_ref: z.string().optional(), expected_notes_ref_sha: fullSha.optional(), author: identity.optional() }
const writeBody = z.object({ ...common, action: z.enum(['add', 'append']).default('add'), note: gitText(500_000).regex(/\S/, 'is empty') })
const deleteBody = z.object(common)
type Write = z.output<typeof deleteBody>

const olderNames = { sha: 'object_ref', ref: 'notes_ref', expected_ref_sha: 'expected_notes_ref_sha' }
const nobody = { name: 'Code Storage', email: 'code-storage@users.noreply.invalid' }
/** Where a write is made before it counts; hidden from git's clients. */
const draftPrefix = 'refs/notes/code-storage-draft/'

/** Notes on commits: read, add, append, delete; list the refs that hold them. */
export function noteRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.get('/repository/notes', async (context) => {
    const { refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, readQueryOf, olderNames)
    const ref = notesRef(query.notes_ref)
    const sha = await refs.named(query.object_ref, false, 'object_ref')
    const head = await refs.commit(ref)
    const blob = head === null ? null : await noteOf(refs, ref, sha)
    if (head === null || blob === null) throw new ApiProblem(404, `note: ${sha} has none at ${ref}`)
    return context.json({ sha, note: (await refs.run(['cat-file', 'blob', blob])).trimEnd(), ref_sha: head })
  })

  api.get('/repository/notes/refs', async (context) => {
    const { refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, listQuery)
    const prefix = `refs/notes/${short(query.prefix)}`
    const found = (await refs.list('refs/notes/')).map(({ name, sha }) => ({ cursor: `refs/notes/${name}`, ref: `refs/notes/${name}`, sha }))
    const matching = found.filter(({ ref }) => ref.startsWith(prefix) && !ref.startsWith(draftPrefix))
    const { page, ...rest } = pageOf(matching, ({ ref }) => ref, query)
    return context.json({ refs: page, prefix, ...rest })
  })

  api.post('/repository/notes', async (context) => {
    const { note, action, ...request } = await readBody(context, writeBody, olderNames)
    return write(context, services, request, async (refs, draft, sha) => {
      const there = await noteOf(refs, draft, sha)
      if (action === 'add' && there !== null) return 'there is a note already; append to it, or delete it first'
      await refs.run(['notes', `--ref=${draft}`, action, '-F', '-', sha], { input: note, env: identityVariables(request.author ?? nobody) })
      return null
    })
  })

  api.delete('/repository/notes', async (context) => {
    const request = await readBody(context, deleteBody, olderNames)
    return write(context, services, request, async (refs, draft, sha) => {
      if ((await noteOf(refs, draft, sha)) === null) throw new ApiProblem(404, `note: ${sha} has none at ${notesRef(request.notes_ref)}`)
      await refs.run(['notes', `--ref=${draft}`, 'remove', sha], { env: identityVariables(request.author ?? nobody) })
      return null
    })
  })
}

/** @param change makes the change on a copy of the ref. It gives a sentence when it can't be made. */
async function write(
  context: ApiContext,
  services: ApiServices,
  request: Write,
  change: (refs: Refs, draft: string, sha: string) => Promise<string | null>,
): Promise<Response> {
  const { refs, claims } = await repositoryOf(context, services, 'git:write')
  const ref = notesRef(request.notes_ref)
  enforcePolicy(claims, ref, true)
  const sha = await refs.named(request.object_ref, false, 'object_ref')
  const answer = (head: string, status: string, message: string | undefined, code: 201 | 409) =>
    context.json({ sha, target_ref: ref, notes_ref: ref, new_ref_sha: head, result: { success: message === undefined, status, ...(message === undefined ? {} : { message }) } }, code)
  for (let attempt = 0; attempt < 10; attempt++) {
    const head = await refs.commit(ref)
    if (request.expected_notes_ref_sha !== undefined && head !== request.expected_notes_ref_sha) return answer(head ?? '', 'precondition_failed', `${ref} is at ${head ?? 'nothing'}`, 409)
    const draft = `${draftPrefix}${randomUUID()}`
    try {
      if (head !== null) await refs.run(['update-ref', draft, head, zeroSha])
      const problem = await change(refs, draft, sha)
      if (problem !== null) return answer(head ?? '', 'conflict', problem, 409)
      const changed = (await refs.commit(draft)) ?? ''
      await refs.enforceSignatures(claims, ref, head, changed)
      if (await refs.compareAndSwap(ref, head ?? zeroSha, changed)) return answer(changed, 'ok', undefined, 201)
      if ((await refs.commit(ref)) === head) return answer(head ?? '', 'conflict', `${ref} is in the way of another, or locked`, 409)
    } finally {
      await refs.run(['update-ref', '-d', draft])
    }
  }
  return answer('', 'conflict', `${ref} keeps moving`, 409)
}

/** The blob of a commit's note; null when it has none. */
async function noteOf(refs: Refs, ref: string, sha: string): Promise<string | null> {
  const lines = (await refs.run(['notes', `--ref=${ref}`, 'list'], { maxOutputBytes: 64 * 1024 * 1024 })).split('\n')
  return lines.find((line) => line.endsWith(` ${sha}`))?.split(' ')[0] ?? null
}

function short(name: string): string {
  return name.replace(/^refs\/notes\//, '').replace(/^notes\//, '')
}

/** `reviews`, `notes/reviews` and `refs/notes/reviews` are the same. @throws ApiProblem 400 for a name that git refuses. */
function notesRef(name: string | undefined): string {
  if (name === undefined || name === '') return 'refs/notes/commits'
  const problem = branchNameProblem(short(name))
  if (problem !== undefined || `refs/notes/${short(name)}`.startsWith(draftPrefix)) throw new ApiProblem(400, `notes_ref: "${name.slice(0, 200)}" ${problem ?? 'is not for use'}`)
  return `refs/notes/${short(name)}`
}
