import type { GitHost, ResolvedRef } from '../../git/index.js'
import type { Checklist } from './checklist.js'

/**
 * The git host, as consumers call it: that it answers and takes the credentials, and where its default branch is.
 * @returns the commit to clone; undefined without a repository, or when it can't be had.
 */
export async function checkGit(
  list: Checklist,
  makeHost: () => GitHost,
  repository: string | undefined,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<{ readonly host: GitHost | undefined; readonly base: ResolvedRef | undefined }> {
  const host = await list.run('host', async () => {
    const host = makeHost()
    const warnings = await host.check(options)
    // With a repository the next row says more.
    return { value: host, detail: host.hosts.join(', '), warnings: repository === undefined ? warnings : [] }
  })
  if (repository === undefined) {
    list.skip('repository', 'give --repository ID to have one cloned and pushed to')
    return { host, base: undefined }
  }
  if (host === undefined) {
    list.skip('repository', 'the host failed')
    return { host, base: undefined }
  }
  const base = await list.run('repository', async () => {
    const resolved = await host.resolve(repository, null, options)
    return { value: resolved, detail: `${repository} ${resolved.ref ?? ''} at ${resolved.sha.slice(0, 12)}` }
  })
  return { host, base }
}
