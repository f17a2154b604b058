/** Of what a walk's deployment is made. */
export const queueNames = ['agents', 'claim'] as const
export const providerNames = ['a', 'b'] as const
export const tenants = ['t0', 't1', 't2'] as const
/** One that some consumers have and others have not. */
export const secretName = 'KEY'
export const schedules = ['s0', 's1'] as const
/** BullMQ's own schedulers. */
export const schedulers = ['e0', 'e1'] as const
/** Who does what operators do. */
export const by = { id: 'walk', name: 'walk' } as const

/** So short that whatever a consumer's death sets off is over within seconds. */
export const settings = { leaseMs: 1_500, stallCheckMs: 500, stopGraceMs: 300, reapIntervalMs: 1_000, reapGraceMs: 1_500, unrunnableGraceMs: 3_000, readWaitMs: 2_000, callTimeoutMs: 2_000 } as const
/** Of each provider. */
export const sandboxesAtMost = 3
/** At that price the smaller budgets last for a second at most. */
export const perSandboxHour = 3.6
export const budgetPeriodMs = 600
