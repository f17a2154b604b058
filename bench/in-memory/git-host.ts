import type { GitAccess, GitHost } from '../../src/git/host.js'

const sha = '1'.repeat(40)

function access(): Promise<GitAccess> {
  return Promise.resolve({ url: 'https://git.invalid/bench.git', username: 't', token: 'in-memory-token', expiresAtMs: Date.now() + 120_000 })
}

/** A git host that answers at once and holds nothing: every repository exists, and its main branch stands at one commit. */
export const inMemoryGitHost: GitHost = {
  name: 'in-memory',
  hosts: ['git.invalid'],
  ephemeral: true,
  check: async () => [],
  resolve: async () => ({ ref: 'refs/heads/main', sha }),
  branchHead: async () => null,
  readAccess: access,
  writeAccess: access,
  promote: async ({ to }) => ({ to, sha, result: 'fast_forward' }),
  signing: null,
  sign: async () => Promise.reject(new Error('nothing is signed here')),
  attest: async () => undefined,
  provenance: async () => ({ found: false }),
  checkSignature: async () => ({ good: false, reason: 'it is not signed' }),
  deleteBranch: async () => undefined,
  diff: async () => ({ files: 0, additions: 0, deletions: 0, paths: [] }),
}
