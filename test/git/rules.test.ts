import { expect, it } from 'vitest'
import { movedTarget } from '../../src/git/rules.js'
import type { PromotionRequest } from '../../src/git/host.js'

it.each([
  [null, 'b', 'was expected not to exist but is at b;'],
  [undefined, 'b', 'was expected not to exist but is at b;'],
  ['a', 'b', 'was expected at a but is at b;'],
  ['a', null, 'was expected at a but is gone;'],
  [null, null, 'was expected not to exist but is gone;'],
] as const)('a target that was expected at %s and is at %s is told in a sentence', (expectedTargetSha, head, sentence) => {
  const request = { to: 'release/1.0', branch: 'agent/1', expectedTargetSha } as unknown as PromotionRequest
  expect(movedTarget(request, head).message).toContain(`promote.to: "release/1.0" ${sentence} the work stays on "agent/1"`)
})
