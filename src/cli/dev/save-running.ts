import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseConfig } from '../../config/load.js'
import type { UncheckedConfig } from '../../config/schema.js'
import { createProviders } from '../../config/providers.js'
import { storedRepositories } from '../../embedded/index.js'
import { runGit } from '../../git/git-process.js'
import { SwitchyardError, errorMessage } from '../../job/errors.js'
import { harmlessLine } from '../../job/harmless-text.js'
import { keptBranch } from '../../job/names.js'
import type { JobStatus } from '../../job/status.js'
import type { Provider } from '../../providers/provider.js'

/**
 * Takes what running jobs have in their sandboxes, and no checkpoint has yet, before the sandboxes are killed: a commit on top of the job's own,
 * as a bundle. It is made inside of the sandbox, and only read here, by git, as a push is.
 */
const script = `cd ~/repository 2>/dev/null || exit 0
index=$(mktemp) && GIT_INDEX_FILE=$index && export GIT_INDEX_FILE || exit 1
cp .git/index "$index" 2>/dev/null || git read-tree HEAD || exit 1
git add -A >/dev/null 2>&1 && tree=$(git write-tree) && head=$(git rev-parse HEAD) || exit 1
beginning=$(cat .git/shallow 2>/dev/null)
[ "$tree" = "$(git rev-parse "HEAD^{tree}")" ] && [ "$head" = "$beginning" ] && exit 0
commit=$(git -c user.name=Switchyard -c user.email=switchyard@users.noreply.invalid commit-tree "$tree" -p "$head" -m 'What the job had when dev was stopped') || exit 1
git update-ref refs/switchyard/left "$commit" || exit 1
git bundle create --quiet "$index.bundle" refs/switchyard/left $(printf '%s\\n' "$beginning" | sed '/./s/^/^/') >/dev/null 2>&1 && base64 <"$index.bundle"`

const timeoutMs = 30_000

/**
 * Puts the work of each job into its repository on this disk, as a branch.
 * @returns the commits, by job: those whose sandbox holds no more than where the job began are left out.
 */
export async function saveRunning(
  jobs: readonly JobStatus[],
  options: { readonly providers: NonNullable<UncheckedConfig['providers']>; readonly dataDir: string; readonly folder: string; readonly say: (line: string) => void },
): Promise<ReadonlyMap<string, string>> {
  const running = jobs.filter(({ state, sandboxId }) => state === 'running' && sandboxId !== null)
  const commits = new Map<string, string>()
  if (running.length === 0) return commits
  const [made] = await createProviders(parseConfig({ providers: options.providers }).providers, { directory: options.folder, environment: {} })
  if (made === undefined) return commits
  const repositories = await storedRepositories(options.dataDir)
  for (const job of running) {
    try {
      const commit = await saved(made.provider, job, repositories.find(({ id }) => id === job.repository)?.path, options.folder)
      if (commit !== undefined) commits.set(job.jobId, commit)
    } catch (error) {
      options.say(`job ${harmlessLine(job.jobId)}: what it did since its last checkpoint could not be saved (${harmlessLine(errorMessage(error))})`)
    }
  }
  await made.provider.close()
  return commits
}

async function saved(provider: Provider, { jobId, sandboxId }: JobStatus, bare: string | undefined, folder: string): Promise<string | undefined> {
  if (bare === undefined || sandboxId === null) return undefined
  const { exitCode, stdout } = await provider.exec(sandboxId, { script }, { timeoutMs })
  if (exitCode !== 0) throw new SwitchyardError(`git in the sandbox ended with ${exitCode}`)
  if (stdout.trim() === '') return undefined
  const bundle = join(folder, 'left.bundle')
  const ref = `refs/namespaces/ephemeral/refs/heads/${keptBranch({ jobId, generation: 1, restart: null }, 1).replace(/^kept/, 'left')}`
  try {
    await writeFile(bundle, Buffer.from(stdout, 'base64'), { mode: 0o600 })
    const git = (...args: string[]) => runGit({ args: ['-C', bare, ...args], config: { 'safe.directory': '*', 'protocol.file.allow': 'always', 'fetch.fsckObjects': 'true' }, timeoutMs })
    const fetched = await git('fetch', '--quiet', '--no-tags', '--no-write-fetch-head', '--no-auto-gc', '--refmap=', bundle, `+refs/switchyard/left:${ref}`)
    if (fetched.exitCode !== 0) throw new SwitchyardError(fetched.stderr.split('\n').find((line) => /fatal|error/.test(line)) ?? 'git did not take it')
    return (await git('rev-parse', '--verify', ref)).stdout.toString('utf8').trim()
  } finally {
    await rm(bundle, { force: true })
  }
}
