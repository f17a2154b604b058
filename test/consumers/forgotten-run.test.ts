import { expect, it } from 'vitest'
import { outcomeOfForgotten } from '../../src/consumers/ending/forgotten-run.js'
import type { RunRecord } from '../../src/job/run-record.js'

const succeeded = { status: 'succeeded', error: null } as const
const failed = { status: 'failed', error: { kind: 'step-failed', message: 'step 1 exited with code 1' } } as const

it.each<[string, Pick<RunRecord, 'outcome' | 'phase'>, string]>([
  ['in a step', { outcome: null, phase: 'steps' }, 'cancelled'],
  ['whose steps were done and whose work was not pushed', { outcome: succeeded, phase: 'pushing' }, 'cancelled'],
  ['whose work was not promoted', { outcome: succeeded, phase: 'promoting' }, 'cancelled'],
  ['that had only to be closed', { outcome: succeeded, phase: 'closing' }, 'succeeded'],
  ['that had failed and whose work was not saved', { outcome: failed, phase: 'pushing' }, 'failed'],
])('a forgotten run %s ends as it should', (_what, record, status) => {
  expect(outcomeOfForgotten(record).status).toBe(status)
})
