import { describe, expect, it } from 'vitest'
import { judgeFitness, type Fitness, type TakenFacts } from '../../src/consumers/intake/fitness.js'
import { runPhases } from '../../src/job/run-record.js'

const able: TakenFacts = {
  stand: { kind: 'able' },
  missingSecrets: [],
  phase: null,
  provider: null,
  reachesProvider: false,
  eligibility: { ok: true, providers: ['a'] },
  keyProblem: null,
  cancelled: false,
  failedChild: null,
}
const stranded = { stand: { kind: 'stranded' } } as const
const nobody = { stand: { kind: 'nobody', reasons: ['no a', 'no secret'] } } as const
const running = { phase: 'steps', provider: 'a', reachesProvider: true } as const
const away = { phase: 'steps', provider: 'a', reachesProvider: false } as const
const notHere = { eligibility: { ok: false, problem: 'not here' } } as const

describe('what a consumer does with a job that it was given', () => {
  it.each<[string, Partial<TakenFacts>, Fitness['kind']]>([
    ['one that has not begun, and that it can run', {}, 'run'],
    ['one that has not begun, and that none of its providers can run', notHere, 'leave'],
    ['one that has not begun, while every key for it is refused', { keyProblem: 'refused' }, 'leave'],
    ['one that lacks a secret here', { missingSecrets: ['KEY'] }, 'leave'],
    ['a running one, whose sandbox it reaches', running, 'run'],
    ['a running one, whose sandbox it reaches, though it could not begin it', { ...running, ...notHere }, 'run'],
    ['a running one at a provider that it lacks', away, 'leave'],
    ['a running one whose secret it lacks', { ...running, missingSecrets: ['KEY'] }, 'leave'],
    ['a stranded one that it could begin', { ...away, ...stranded }, 'move'],
    ['a stranded one that it could not begin', { ...away, ...stranded, ...notHere }, 'leave'],
    ['a stranded one whose secret it lacks', { ...away, ...stranded, missingSecrets: ['KEY'] }, 'leave'],
    ['a stranded one whose sandbox it reaches after all', { ...running, ...stranded }, 'run'],
    ['a stranded one that is to be cancelled', { ...away, ...stranded, missingSecrets: ['KEY'], cancelled: true }, 'run'],
    ['one that is to be promoted: that needs no sandbox', { ...away, phase: 'promoting' }, 'run'],
    ['one that nobody can run', { ...away, ...nobody }, 'end'],
    ['one that nobody can run, and that is to be cancelled', { ...away, ...nobody, cancelled: true }, 'run'],
    ['one whose flow has failed, before it has begun', { failedChild: 'child a failed' }, 'end'],
    ['one whose flow has failed, though it could not begin it', { ...notHere, failedChild: 'child a failed' }, 'end'],
    ['one whose flow has failed while it runs', { ...running, failedChild: 'child a failed' }, 'run'],
    ['one whose flow has failed, and that is to be cancelled', { failedChild: 'child a failed', cancelled: true }, 'run'],
    ['a stranded one that only has to be closed', { ...away, ...stranded, phase: 'closing', missingSecrets: ['KEY'] }, 'run'],
  ])('%s', (_what, facts, kind) => {
    expect(judgeFitness({ ...able, ...facts }).kind).toBe(kind)
  })

  it('never runs a job in its sandbox that it does not reach, and never without a secret', () => {
    for (const phase of runPhases.filter((each) => !['promoting', 'closing', 'ended'].includes(each))) {
      for (const stand of [able.stand, stranded.stand, nobody.stand]) {
        expect(judgeFitness({ ...able, ...away, phase, stand }).kind).not.toBe('run')
        expect(['leave', 'end']).toContain(judgeFitness({ ...able, ...running, phase, stand, missingSecrets: ['KEY'] }).kind)
      }
    }
  })

  it('says the reasons of all when nobody can', () => {
    expect(judgeFitness({ ...able, ...nobody })).toEqual({ kind: 'end', owner: 'deployment', reason: 'no live consumer of this deployment can run this job: no a; and no secret' })
  })
})
