import { expect, it } from 'vitest'
import { SandboxAnswers } from '../../src/consumers/placing/sandbox-answers.js'

it('tells that sandboxes answer now and then, at once after one could not be reached, and which can’t be', async () => {
  const told: string[] = []
  let nowMs = 1_000_000
  const report = (provider: string, { kind, ...more }: { kind: string }) => {
    told.push(`${provider} ${kind}${'sandboxId' in more ? ` ${String(more.sandboxId)}` : ''}`)
    return told.length === 1 ? Promise.reject(new Error('Redis is away')) : Promise.resolve()
  }
  const warned: unknown[] = []
  const answers = new SandboxAnswers(report, { warn: (...line: unknown[]) => void warned.push(line) }, () => nowMs, 30_000)
  for (let call = 0; call < 100; call++) answers.answered('a')
  nowMs += 5_000
  answers.answered('a')
  answers.unreachable('a', 's1')
  answers.answered('b')
  answers.answered('a')
  answers.answered('a')
  // A clock that was set back by an hour silences nobody for an hour.
  nowMs -= 3_600_000
  answers.answered('a')
  await answers.close()
  expect(told).toEqual(['a answered', 'a answered', 'a unreachable s1', 'b answered', 'a answered', 'a answered'])
  expect(warned).toHaveLength(1)
})
