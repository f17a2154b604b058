import { z } from 'zod'
import type { JobResult } from '../../job/result.js'
import type { JobSpecInput } from '../../job/spec.js'

/** The demo's job with a real agent, and what it must have come to. Pure. */

/** The key that the model of the checkout lets in, as the agent reads it. */
export const keyName = 'ANTHROPIC_API_KEY'

/** The turn in the middle of which its first sandbox dies. */
export const brokenTurn = 3
const tasks = 4

export interface AgentJobParts {
  readonly repository: string
  /** The provider at which it begins. */
  readonly first: string
  readonly session: string
  /** The folder of the agent's program. */
  readonly bin: string
  /** The model's address. */
  readonly modelUrl: string
}

/** Claude Code's recipe of docs/agents.md, with a prompt whose third task does not end in the first sandbox. */
export function agentJob({ repository, first, session, bin, modelUrl }: AgentJobParts): JobSpecInput {
  const flags = '--output-format stream-json --verbose --dangerously-skip-permissions'
  return {
    repository,
    env: {
      SESSION: session,
      PROMPT: [
        'Do these four tasks, each with one call of your shell tool.',
        'task 1: echo "# Notes" > NOTES.md',
        'task 2: echo "- the first sandbox was here" >> NOTES.md && git add NOTES.md && git commit -qm "Begin the notes"',
        'task 3: echo "- begun in sandbox number $SWITCHYARD_ATTEMPT" >> NOTES.md; while [ "$SWITCHYARD_ATTEMPT" = 1 ]; do date > .still-at-it; sleep 0.5; done; rm -f .still-at-it',
        'task 4: echo "- done" >> NOTES.md && git add -A && git commit -qm "Finish the notes"',
      ].join('\n'),
      IS_SANDBOX: '1',
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
      ANTHROPIC_BASE_URL: modelUrl,
      PATH: `${bin}:/usr/local/bin:/usr/bin:/bin`,
      ...Object.fromEntries(['AUTHOR', 'COMMITTER'].flatMap((who) => [[`GIT_${who}_NAME`, 'Agent'], [`GIT_${who}_EMAIL`, 'agent@example.invalid']])),
    },
    secrets: [keyName],
    steps: [
      {
        name: 'claude',
        run: `claude -p "$PROMPT" --session-id "$SESSION" ${flags}`,
        resume: `claude -p 'You were interrupted; look at git status and go on' --resume "$(find ~/.claude/projects -name "$SESSION.jsonl" | head -n 1)" ${flags}`,
      },
    ],
    checkpoint: { everySeconds: 1, paths: ['~/.claude/projects'] },
    push: { message: 'Finish in another sandbox' },
    promote: { to: 'demo/agent', strategy: 'ff_only' },
    providers: { prefer: [first] },
    timeout: '5m',
  }
}

/** What the model of the checkout tells of itself. */
export const turnsSchema = z.array(z.object({ turn: z.int(), answers: z.int(), inputTokens: z.int(), cachedTokens: z.int(), outputTokens: z.int() }))
export type Turns = z.output<typeof turnsSchema>

/** What did not come out as intended; empty when all did. */
export function agentComplaints(result: JobResult, turns: Turns): string[] {
  const [lost, went] = result.attempts
  const asked = turns.map(({ turn, answers }) => `${turn}:${answers}`).join(' ')
  const intended = Array.from({ length: tasks + 1 }, (_, index) => `${index + 1}:${index + 1 === brokenTurn ? 2 : 1}`).join(' ')
  return [
    ...(result.status === 'succeeded' ? [] : [`it ${result.status}${result.error === null ? '' : `: ${result.error.message}`}`]),
    ...(result.attempts.map(({ outcome }) => outcome).join() === 'lost,succeeded' ? [] : [`its attempts: ${result.attempts.map(({ outcome }) => outcome).join()} instead of lost,succeeded`]),
    ...(lost?.provider === went?.provider ? ['it did not go to another provider'] : []),
    ...(asked === intended ? [] : [`how often its model answered each turn: ${asked} instead of ${intended}`]),
    ...(result.diff?.paths.join() === 'NOTES.md' ? [] : [`changed paths: ${result.diff?.paths.join() ?? 'none'} instead of NOTES.md`]),
  ]
}

/** What each turn cost, for people. */
export function turnsReport(turns: Turns): string {
  return turns
    .map(({ turn, answers, inputTokens, outputTokens }) => {
      const times = answers === 1 ? 'answered once' : `answered ${answers} times`
      const why = turn === brokenTurn ? ', since its sandbox died in the middle of it' : ''
      return `  turn ${turn}: ${times}${why} (${inputTokens} tokens in, ${outputTokens} out)`
    })
    .join('\n')
}
