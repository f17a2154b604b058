import type { GitCallOptions, GitHost } from './host.js'
import { TemporaryRepository } from './temporary-repository.js'

/**
 * Asks the host, from here, whether it would let a job's branch be pushed to: with a token as the job's, as far as is told before
 * anything is sent. Changes nothing.
 * @throws InfrastructureError when it would not, or when it does not answer.
 */
export async function checkPush(git: GitHost, repository: string, branch: string, options: GitCallOptions): Promise<void> {
  const access = await git.writeAccess(repository, { branch })
  await TemporaryRepository.use(git.name, access, options, (local) => local.checkPush(`refs/heads/${branch}`))
}
