import { RedisUnavailableError } from '../../src/job/errors.js'
import type { AgentQueue } from '../../src/producers/index.js'

/** A job whose commands break what the runner stands on, within its own home. */
export interface Attack {
  readonly name: string
  readonly steps: readonly string[]
}

const folders = 'for d in $(find ~/.switchyard -type d); do'
const attacks: readonly Attack[] = [
  { name: 'removes the runner', steps: ['rm -rf ~/.switchyard; sleep 1'] },
  { name: 'an exit code out of range', steps: [`${folders} : > "$d/exited.99999"; done; sleep 2`] },
  { name: 'an exit code that is no number', steps: [`${folders} : > "$d/exited.NaN"; done; sleep 2`] },
  { name: 'no rights in the runner’s folder', steps: ['chmod -R 000 ~/.switchyard; sleep 1', 'true'] },
  { name: 'the runner is another program', steps: ['find ~/.switchyard -type f -exec sh -c \'echo "echo garbage" > "$1"\' sh {} \\; ; sleep 1', 'true'] },
  { name: 'removes the repository', steps: ['cd; rm -rf ~/repository; sleep 1', 'true'] },
  { name: 'breaks the repository', steps: ['rm -rf .git/objects; echo one > one.txt', 'true'] },
  {
    name: 'shadows programs',
    steps: [
      'mkdir -p ~/bin ~/.local/bin; for f in sh git cat base64; do for d in ~/bin ~/.local/bin; do printf "#!/bin/sh\\necho garbage; exit 3\\n" > $d/$f; chmod 755 $d/$f; done; done; ' +
        'for f in .profile .bash_profile .bashrc .zshenv; do echo "echo garbage; PATH=$HOME/bin:$PATH; exit 3" > ~/$f; done',
      'echo two > two.txt',
    ],
  },
]

export interface HostileJob {
  readonly jobId: string
  readonly attack: string
}

/** @param pick from 0 to 1. */
export function attackOf(pick: number): Attack {
  return attacks[Math.floor(pick * attacks.length)] ?? attacks[0]!
}

/** As a producer does: while Redis is away, the same call again, which the idempotency key makes safe. */
export async function enqueueHostile(queue: AgentQueue, { name, steps }: Attack, index: number, repositories: readonly string[]): Promise<HostileJob> {
  for (;;) {
    try {
      const { jobId } = await queue.enqueue({ repository: repositories[index % repositories.length] ?? '', steps: [...steps], timeout: '30m', idempotencyKey: `hostile-${index}`, metadata: { hostile: name } })
      return { jobId, attack: name }
    } catch (error) {
      if (!(error instanceof RedisUnavailableError)) throw error
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
}
