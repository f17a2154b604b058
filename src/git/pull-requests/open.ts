import { InfrastructureError } from '../../job/errors.js'
import type { GitCallOptions } from '../host.js'
import { BitbucketForge } from './bitbucket.js'
import { ForgeApi, type ForgeApiOptions } from './forge-api.js'
import { GitHubForge } from './github.js'
import { GitLabForge } from './gitlab.js'
import type { Forge, ForgeKind, KnownPullRequest } from './pull-requests.js'
import type { OpenedPullRequest, PullRequestRequest } from './request.js'

const forges: Readonly<Record<ForgeKind, (api: ForgeApi) => Forge>> = {
  github: (api) => new GitHubForge(api),
  gitlab: (api) => new GitLabForge(api),
  bitbucket: (api) => new BitbucketForge(api),
}

export function createForge(kind: ForgeKind, options: ForgeApiOptions): Forge {
  return forges[kind](new ForgeApi(options))
}

/** The kinds that are known by their git URL, and where their APIs are. */
const publicHosts: Readonly<Record<string, readonly [ForgeKind, string]>> = {
  'github.com': ['github', 'https://api.github.com'],
  'gitlab.com': ['gitlab', 'https://gitlab.com/api/v4'],
  'bitbucket.org': ['bitbucket', 'https://api.bitbucket.org/2.0'],
}

/** The kind of a host and its API, by its git URL and what is configured; null when neither tells. */
export function forgeAt(gitUrl: string, configured: { readonly kind: ForgeKind; readonly url?: string | undefined } | undefined): { readonly kind: ForgeKind; readonly url: string } | null {
  const known = publicHosts[new URL(gitUrl).hostname]
  if (configured === undefined) return known === undefined ? null : { kind: known[0], url: known[1] }
  const { origin } = new URL(gitUrl)
  const usual = { github: `${origin}/api/v3`, gitlab: `${origin}/api/v4`, bitbucket: 'https://api.bitbucket.org/2.0' }
  return { kind: configured.kind, url: configured.url ?? (known?.[0] === configured.kind ? known[1] : usual[configured.kind]) }
}

/**
 * Opens a pull request once, whatever becomes of the answers: one that is open for the two branches is updated, and one that bears this
 * very request's mark was opened before.
 *
 *   look ──none──► ask the caller ──► open ──there is one by now──► look again ──► update
 *     └──open──► update
 *
 * @param beforeOpen asked right before one is made; what it throws prevents that.
 * @returns null when the branches do not differ, so that there is nothing to request.
 */
export async function openPullRequest(source: string, forge: Forge, request: PullRequestRequest, options: GitCallOptions, beforeOpen: () => Promise<void>): Promise<OpenedPullRequest | null> {
  const { repository, head } = request
  const base = request.base ?? (await forge.defaultBranch(repository, options))
  if (base === head) throw new InfrastructureError({ kind: 'invalid', owner: 'job', source, message: `promote.pullRequest: "${head}" is the branch that the pull request is to go to; promote to a branch of its own` })
  const finish = async (known: KnownPullRequest, action: OpenedPullRequest['action']): Promise<OpenedPullRequest> => ({
    number: known.number,
    url: known.url,
    base,
    action,
    problems: action === 'found' ? [] : await forge.complete(known, request, options),
  })
  const existing = async (): Promise<OpenedPullRequest | undefined> => {
    const all = await forge.between(repository, head, base, options)
    const open = all.find((each) => each.open)
    const own = all.find((each) => each.body.includes(request.mark))
    if (open === undefined) return own === undefined ? undefined : finish(own, 'found')
    return finish(await forge.update(open.number, request, options), open === own ? 'opened' : 'updated')
  }
  const before = await existing()
  if (before !== undefined) return before
  await beforeOpen()
  const outcome = await forge.open({ ...request, base }, options)
  if (outcome === 'nothing') return null
  if (outcome !== 'exists') return finish(outcome.opened, 'opened')
  const other = await existing()
  if (other !== undefined) return other
  throw new InfrastructureError({ kind: 'transient', owner: 'git-host', source, message: `${source}: pull request: the host says that one from "${head}" to "${base}" is open, and lists none` })
}
