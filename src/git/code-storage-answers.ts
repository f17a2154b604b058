import { z } from 'zod'

/** What Code Storage's HTTP API answers, as far as it is read here. Unknown fields are left alone: the API grows. */

const sha = z.string().regex(/^[0-9a-f]{40}$/)
const count = z.number().int().min(0)

export const repositoryAnswer = z.object({ default_branch: z.string().min(1), created_at: z.string().optional() })

export const branchesAnswer = z.object({
  branches: z.array(z.object({ name: z.string(), head_sha: sha })),
  next_cursor: z.string().nullish(),
  has_more: z.boolean(),
})

export const createdBranchAnswer = z.object({ target_branch: z.string(), commit_sha: sha.nullish() })

export const mergeAnswer = z.object({
  result: z.enum(['merge_commit', 'fast_forward', 'no_op', 'squash', 'unknown']),
  commit_sha: sha,
  source: z.object({ sha }),
  target: z.object({ old_sha: z.string(), new_sha: sha }),
})

/** The body of a 409. */
export const conflictAnswer = z.object({
  error: z.string().default('conflict'),
  conflict_type: z.string().optional(),
  conflict_paths: z.array(z.string()).default([]),
})

const diffFile = z.object({ path: z.string() })
export const diffAnswer = z.object({
  stats: z.object({ files: count, additions: count, deletions: count }),
  files: z.array(diffFile.extend({ raw: z.string().default('') })),
  filtered_files: z.array(diffFile),
})

export const commitAnswer = z.object({ commit: z.object({ sha, parent_shas: z.array(sha) }) })

export const errorAnswer = z.object({ error: z.string() })
