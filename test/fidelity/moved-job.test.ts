import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { JobHandle } from '../../src/producers/index.js'
import type { Provider } from '../../src/providers/provider.js'
import { altered, git, startDeployment, until, verbOf, type Deployment } from '../e2e/deployment.js'

type Credentials = 'minted' | 'brokered'
/**
 * Where a sandbox is lost: within a step, after a checkpoint of the work; then the next one as well, in the call that clones, starts the setup or
 * restores; or the first, in the call that saves, makes the last commit or pushes.
 */
const phases: Record<Credentials, readonly string[]> = {
  minted: ['step', 'clone', 'start', 'restore', 'checkpoint', 'push-checkpoint', 'commit', 'push'],
  brokered: ['step', 'clone', 'start', 'restore', 'checkpoint', 'pack', 'commit'],
}
const ofARestore = ['step', 'clone', 'start', 'restore']

// The same commits each time: nothing but a move may change what is seen.
const agent = `export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@b.c GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@b.c GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'`
const work = `${agent}
git config user.nickname agent && git config --global alias.st status
git switch -q -c trunk && git switch -q -c side && echo side > side.txt && git add -A && git commit -qm Side && git tag -a v1 -m 'The first' && git switch -q -
echo own >> README.md && git commit -qam Own && git commit -q --amend -m 'Own, again'
echo put > away.txt && git stash push -q -u -m 'put away'
git merge -q -s ours --no-commit side
echo staged > staged.txt && git add staged.txt && echo unstaged >> staged.txt && echo new > 'new file' && chmod 600 secret.sh
mkdir -p empty/within build && echo built > build/ignored && git mv -f docs/a docs/b && rm docs/c
git init -q nested && (cd nested && echo n > n.txt && git add -A && git commit -qm Nested)
mkdir -p ~/.agent && echo "turn 1" > ~/.agent/session`
const picture = `echo BEGIN; git symbolic-ref HEAD; git status --porcelain=v2 --branch; git for-each-ref --format='%(refname) %(objecttype) %(objectname)' refs/heads refs/tags refs/stash
git stash list --format='%gs'; git config --local --list | sort; git config --global alias.st; git ls-files --stage; cat .git/MERGE_HEAD .git/MERGE_MSG; git -C nested log --format=%H; git -C nested status --short
find . -name .git -prune -o -path ./build -prune -o -type d -exec ls -ld {} + | awk '{ print $1, $NF }' | sort; find . -name .git -prune -o -path ./build -prune -o -type f -exec ls -l {} + | awk '{ print $1, $5, $NF }' | sort
find . -name .git -prune -o -path ./build -prune -o -type f -exec cksum {} + | sort; cat ~/.agent/session; echo END`


let deployment: Deployment
beforeAll(async () => {
  deployment = await startDeployment({ limits: [6, 6] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n', 'docs/a': 'a\n', 'docs/c': 'c\n', 'secret.sh': 'echo\n', '.gitignore': 'build/\n' })
}, 60_000)
afterAll(async () => await deployment.close())

/** The deployment's providers, but that each sandbox is killed at the call that `lossOf` names for it. */
function losing(credentials: Credentials, lossOf: (jobId: string, attempt: number) => string | undefined) {
  const sandboxes = new Map<string, Record<string, string>>()
  return deployment.providers.map((real) => {
    const provider = altered<Provider>(real, {
      create: async (request, options) => {
        const info = await real.create(request, options)
        sandboxes.set(info.id, request.tags)
        return info
      },
      exec: async (id, command, options) => {
        const tags = sandboxes.get(id)
        if (tags !== undefined && lossOf(tags['switchyard-job'] ?? '', Number(tags['switchyard-attempt'])) === verbOf(command)) {
          sandboxes.delete(id)
          await real.kill(id, { timeoutMs: 20_000 })
        }
        return await real.exec(id, command, options)
      },
    })
    return { provider, limit: { sandboxes: 6 }, credentials }
  })
}

async function enqueue(phase: string | undefined): Promise<JobHandle> {
  const waits = phase !== undefined && ofARestore.includes(phase)
  return await deployment.queue.enqueue({
    repository: 'acme/web',
    setup: ['echo "set up $SWITCHYARD_ATTEMPT"'],
    steps: [
      { name: 'work', run: work },
      { name: 'hold', run: waits ? '[ "$SWITCHYARD_ATTEMPT" != 1 ] || { echo "it holds"; while :; do sleep 0.1; done; }' : 'true' },
      { name: 'look', run: picture },
    ],
    checkpoint: { everySeconds: 300, paths: ['~/.agent'] },
  })
}

async function logOf(job: JobHandle): Promise<string> {
  let log = ''
  for await (const line of job.logs()) log += line.text
  return log
}

/** All that a job leaves: what its last step saw, its branch with every commit's tree, and what was kept beside it. */
async function left(job: JobHandle) {
  const result = await job.result({ timeoutMs: 200_000 })
  const log = await logOf(job)
  expect(result, log).toMatchObject({ status: 'succeeded' })
  const folder = await deployment.checkout('acme/web', result.branch!, true)
  return {
    attempts: result.attempts.length,
    seen: log.slice(log.lastIndexOf('BEGIN'), log.lastIndexOf('END')).replaceAll(job.jobId, 'JOB').split('\n'),
    history: (await git(folder, 'log', '--format=%T %an %s')).replaceAll(job.jobId, 'JOB').split('\n'),
    // A sandbox that is lost while one is pushed has taken its number.
    kept: result.kept.map(({ branch, commit }) => `${branch.replace(job.jobId, 'JOB').replace(/\d+$/, 'N')} ${commit}`),
    unsaved: result.unsaved,
  }
}

describe.each(['minted', 'brokered'] as const)('with %s credentials, a job that loses its sandbox', (credentials) => {
  it('in any phase leaves what one leaves that lost none', { timeout: 300_000 }, async () => {
    const planned = new Map<string, string>()
    const consumer = await deployment.startConsumer({
      providers: losing(credentials, (jobId, attempt) => {
        const phase = planned.get(jobId)
        return phase !== undefined && attempt === (ofARestore.includes(phase) ? 2 : 1) ? phase : undefined
      }),
    })
    const undisturbed = await left(await enqueue(undefined))
    expect(undisturbed.attempts).toBe(1)
    expect(undisturbed.seen.length).toBeGreaterThan(40)
    await Promise.all(
      phases[credentials].map(async (phase) => {
        const job = await enqueue(phase)
        planned.set(job.jobId, phase)
        if (ofARestore.includes(phase)) {
          await until(`the sandbox is lost (${phase})`, async () => (await logOf(job)).includes('it holds'), 200_000)
          const { provider, sandboxId } = await job.status()
          await deployment.providers.find(({ name }) => name === provider)!.kill(sandboxId!, { timeoutMs: 20_000 })
        }
        expect({ phase, ...(await left(job)) }).toEqual({ phase, ...undisturbed, attempts: ofARestore.includes(phase) && phase !== 'step' ? 3 : 2 })
      }),
    )
    await consumer.stop()
  })
})
