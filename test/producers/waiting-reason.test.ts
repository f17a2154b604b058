import { describe, expect, it } from 'vitest'
import { parseJobSpec, type JobSpecInput } from '../../src/job/spec.js'
import type { ProviderLoad } from '../../src/store/index.js'
import { waitingReason, type Around } from '../../src/producers/waiting-reason.js'

const consumer = (providers: readonly string[], secrets: readonly string[] = [], refused: readonly string[] = [], full = false) => ({
  full,
  providers,
  secrets,
  troubles: refused.map((of) => ({ of, message: `${of}: the key is refused`, sinceMs: 0 })),
})
const full = (provider: string): ProviderLoad => ({
  provider, limit: 2, configuredLimit: 2, set: null, drain: null, effectiveLimit: 2, foreign: 0, used: 2, waiting: 0, cpu: 0, cpuLimit: null, memoryMiB: 0, memoryMiBLimit: null, breaker: 'closed', openUntilMs: null,
  openedBy: null, createsPerSecond: null, blockedUntilMs: null, startP50Ms: null, startP95Ms: null, startMaxMs: null,
})
const around: Around = { loads: [], paused: false, pausedBy: null, consumers: [consumer(['a', 'b'], ['KEY'])], tenant: null, refusals: null, key: null, unpaid: null, delayedUntilMs: null, flow: null }
const specOf = (more: Partial<JobSpecInput> = {}) => parseJobSpec({ repository: 'acme/web', steps: ['true'], ...more })
const at = (provider: string) => ({ sandbox: { provider, id: 's', createdAtMs: 0, repositoryPath: null }, creating: null })

describe('why a job waits that nobody has in hand', () => {
  it.each<[string, Partial<JobSpecInput>, ReturnType<typeof at> | null, Partial<Around>, string | null]>([
    ['nothing', {}, null, {}, null],
    ['a paused queue, before all else', { secrets: ['NO'] }, null, { paused: true, consumers: [] }, 'waiting: the queue is paused; resume it'],
    ['its children, before all else', {}, null, { flow: { failedChild: null }, paused: true, consumers: [] }, 'waiting for the children of its flow'],
    ['one of them, which has failed', {}, null, { flow: { failedChild: 'job a' } }, 'waiting for the children of its flow, of which job a has failed; run that again'],
    ['its time', {}, null, { delayedUntilMs: 3_600_000 }, 'waiting: delayed until 1970-01-01T01:00:00Z'],
    ['a consumer', {}, at('a'), { consumers: [] }, 'waiting for a consumer: none is live for this queue; start one'],
    ['a secret', { secrets: ['KEY', 'NO'] }, null, {}, 'waiting for a consumer that has the secret NO: no live one has'],
    ['a provider', { providers: { allow: ['c'] } }, null, {}, 'waiting for a consumer that can run it: no live one has a provider that it may use'],
    ['the provider of its sandbox', {}, at('c'), {}, 'waiting for a consumer that has the provider "c", where its sandbox is: no live one has'],
    ['both at one consumer', { secrets: ['KEY'] }, at('a'), { consumers: [consumer(['a']), consumer(['b'], ['KEY'])] }, 'waiting for a consumer that has the provider "a" and the secrets KEY: no live one has both'],
    ['somebody who can, as all have said', {}, null, { refusals: { reasons: ['no such image'], sinceMs: 60_000, passing: null } }, 'waiting for a consumer that can run it: none can since 00:01:00 (no such image)'],
    ['nothing, when only some have refused', {}, null, { refusals: { reasons: ['no such image'], sinceMs: null, passing: null } }, null],
    ['another consumer, when one that has refused it may be asked again', {}, at('a'), { refusals: { reasons: ['no such image', 'colour: is not known'], sinceMs: null, passing: 'colour: is not known' } }, 'waiting for another consumer: colour: is not known'],
    ['room, when one that has refused it may be asked again', { providers: { allow: ['a'] } }, null, { loads: [full('a')], refusals: { reasons: ['colour: is not known'], sinceMs: null, passing: 'colour: is not known' } }, 'waiting for capacity: a full (2/2)'],
    ['a git key', {}, null, { consumers: [consumer(['a'], [], ['git'])] }, 'waiting for a consumer whose key is taken (git: git: the key is refused)'],
    ['a provider’s key', { providers: { allow: ['a'] } }, null, { consumers: [consumer(['a', 'b'], [], ['a'])] }, 'waiting for a consumer whose key is taken (a: a: the key is refused)'],
    ['room at a consumer', {}, null, { consumers: [consumer(['a'], [], [], true)] }, 'waiting for a consumer with room: each that may run it has as many jobs as it may (consumer.maxJobs)'],
    ['nothing, when one of them has room', {}, null, { consumers: [consumer(['a'], [], [], true), consumer(['a'])] }, null],
    ['nothing, when another provider’s key is taken', {}, null, { consumers: [consumer(['a', 'b'], [], ['a'])] }, null],
    ['nothing, when another consumer’s key is taken', {}, at('a'), { consumers: [consumer(['a'], [], ['git']), consumer(['a'])] }, null],
    ['its tenant', { tenant: 't' }, null, { tenant: { running: 2, cap: 2, pause: null } }, 'waiting for tenant t: 2 of at most 2 jobs are running'],
    ['its key', {}, null, { key: { key: 'k', limit: 1, held: 1, holders: ['x'] }, tenant: { running: 2, cap: 2, pause: null } }, 'waiting for the concurrency key "k": job x has it (1 of at most 1)'],
    ['its key, that many have', {}, null, { key: { key: 'k', limit: 9, held: 5, holders: ['x', 'y', 'z'] } }, 'waiting for the concurrency key "k": jobs x, y, z and 2 more have it (5 of at most 9)'],
    ['others of its key', {}, null, { key: { key: 'k', limit: 1, held: 0, holders: [] } }, 'waiting for the concurrency key "k": others that wait for it come first'],
    ['a consumer, before its key', {}, null, { consumers: [], key: { key: 'k', limit: 1, held: 1, holders: ['x'] } }, 'waiting for a consumer: none is live for this queue; start one'],
    ['capacity, at the providers that it may use', { providers: { allow: ['a'] } }, null, { loads: [full('a'), { ...full('b'), used: 0 }] }, 'waiting for capacity: a full (2/2)'],
    ['its tenant’s budget, before capacity', { tenant: 't' }, null, { unpaid: 'waits for tenant t’s budget', loads: [full('a'), full('b')] }, 'waits for tenant t’s budget'],
    ['its tenant’s pause, before its budget', { tenant: 't' }, null, { unpaid: 'waits for tenant t’s budget', tenant: { running: 0, cap: null, pause: { by: 'anna', reason: null, atMs: 0, untilMs: null } } }, 'waiting: tenant t is paused by anna'],
    ['capacity, at the providers of consumers that have its secret', { secrets: ['KEY'] }, null, { consumers: [consumer(['a'], ['KEY']), consumer(['b'])], loads: [full('a'), { ...full('b'), used: 0 }] }, 'waiting for capacity: a full (2/2)'],
  ])('%s', (_what, spec, record, more, reason) => {
    expect(waitingReason(specOf(spec), record, { ...around, ...more })).toBe(reason)
  })
})
