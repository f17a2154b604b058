import { resumes } from '../../../job/constraints.js'
import { rateOf } from '../../../job/cost.js'
import { untilAborted } from '../../../store/index.js'
import type { ProviderLimit, ProviderLoad } from '../../../store/provider-load.js'
import { intentToCreate, resolveBase } from '../../placing/beginning.js'
import { candidatesOf, eligibleHere, limitsOf } from '../../placing/candidates.js'
import { InfrastructureError } from '../../../job/errors.js'
import { sandboxTags, type Provider, type SandboxInfo, type SandboxRequest } from '../../../providers/provider.js'
import type { RunRecord } from '../../../job/run-record.js'
import { lifetimeWarning } from '../../placing/lifetime-warning.js'
import { placementOrder, waitingReason } from '../../placing/placement.js'
import { elapsedMs } from '../../consumer-context.js'
import { measured } from '../../measured.js'
import type { RunContext } from '../../run-context.js'
import { watchCreate } from '../../placing/slow-create.js'
import { keepsSecret } from '../../transfer/secret-headers.js'
import { confirmCheckpoint } from '../continuation.js'
import { KeysRefusedError, UnconfiguredProviderError } from '../../sandbox-access.js'

/**
 * `placing`: finds out what the job starts from, gets a place at a provider and creates the sandbox there. A job that was chosen
 * together with a place has come that far when it is acquired (`beginning`): only the create call is left.
 *
 * The intent to create is recorded before the call: whoever takes over then finds the sandbox by its name or tags, and
 * nobody creates a second one.
 */
export async function placing(ctx: RunContext): Promise<void> {
  const { creating } = ctx.record
  if (creating !== null) return create(ctx, creating.provider, creating.name, !ctx.useFreshIntent())
  // A job that has to wait for a place keeps to the commit that it began with.
  if (ctx.record.base === null) await ctx.update(await resolveBase(ctx.shared, ctx.spec, { timeoutMs: ctx.shared.settings.callTimeoutMs, signal: ctx.work }))
  await confirmCheckpoint(ctx)
  const provider = await takePlace(ctx, ctx.work)
  const intent = intentToCreate(ctx.shared, ctx.record, provider)
  await ctx.update(intent)
  return create(ctx, provider, intent.creating?.name ?? '', false)
}

/** For how long a job's reason may be out of date when many wait, in milliseconds. */
const longestStaleReasonMs = 60_000

/** Waits, however long it takes, until the ledger gives this job a place. Returns the provider. */
export async function takePlace(ctx: RunContext, signal: AbortSignal): Promise<string> {
  const { ledger, providers, settings, now, waits, policy, git, keys } = ctx.shared
  const limits = limitsOf(providers)
  const eligibility = eligibleHere(ctx.shared, ctx.spec)
  if (!eligibility.ok) throw new InfrastructureError({ kind: 'invalid', owner: 'job', code: 'SWY_JOB_UNRUNNABLE', source: 'placement', message: eligibility.problem })
  const ahead = ctx.useLoadsWithoutPlace()
  const [held, known] = ahead === null ? await Promise.all([ledger.leaseOf(ctx.jobId), ledger.sharedLoads(limits)]) : [null, ahead]
  // Its place was chosen together with the job by a consumer that went no further, or is its own since before its restart.
  if (held !== null && ctx.record.attempts.length === (ctx.record.restart?.attemptsBefore ?? 0) && eligibility.providers.includes(held.provider)) return held.provider

  const { resources, network } = ctx.spec
  const job = { resources, network, prefer: ctx.spec.providers.prefer, resumes: resumes(ctx.spec), eligible: eligibility.providers, attempts: ctx.record.attempts, exclusions: ctx.activeExclusions() }
  let loads: readonly ProviderLoad[] = known
  const order = () => {
    const usable = eligibility.providers.filter((provider) => !keys.isRefused({ provider }))
    const [refused] = eligibility.providers
    if (usable.length === 0 && refused !== undefined) throw new KeysRefusedError(keys.problem({ provider: refused }) ?? refused)
    return placementOrder(candidatesOf(providers, loads, git.hosts), { ...job, eligible: usable }, policy, now())
  }
  if (held !== null) {
    if (order()[0] === held.provider) return held.provider
    await ctx.releasePlace()
  }
  const leaseId = `${ctx.jobId}/${ctx.fence}.${ctx.record.attempts.length}`
  const elapsed = ctx.shared.elapsed ?? elapsedMs
  let said: { reason: string; atMs: number } | null = null
  // Listening starts before asking: a grant that comes right after the answer is not missed.
  const wait = waits.expect(leaseId)
  const ask = async (wanted: readonly ProviderLimit[]) => {
    const asked =
      wanted.length === 0
        ? ledger.sharedLoads(limits).then((current) => ({ provider: null, loads: current, opensInMs: null }))
        : ledger.reserve({
            leaseId,
            holder: ctx.shared.holder,
            candidates: wanted,
            demand: { cpu: resources.cpu ?? 0, memoryMiB: resources.memoryMiB ?? 0 },
            ttlMs: settings.leaseMs,
            wait: { rank: ctx.spec.priority },
          })
    // In the same breath: a place that is there at once is bound at once.
    const [answer, bound] = await Promise.all([asked, said === null && ledger.bind(leaseId, ctx.jobId)])
    if (answer.provider === null) wait.asked(answer)
    return { ...answer, bound }
  }
  try {
    for (;;) {
      signal.throwIfAborted()
      ctx.cameRound()
      const wanted = order().flatMap((name) => limits.filter((limit) => limit.provider === name))
      const heard = wait.begin(wanted.map(({ provider }) => provider))
      const answer = heard === null ? await ask(wanted) : { provider: null, loads: heard, bound: false }
      if (answer.provider === null) {
        loads = mergeLoads(loads, answer.loads)
        const reason = waitingReason(loads, eligibility.providers, ctx.activeExclusions(), now())
        // Once in the job's log: the figures change all the time.
        if (ctx.beginWait('a place')) await ctx.say(reason)
        // One of many that wait is as good as another: together they write it about once a second.
        const restMs = Math.min(longestStaleReasonMs, settings.pollMs * waits.size)
        if (said === null || (reason !== said.reason && elapsed() - said.atMs >= restMs)) {
          said = { reason, atMs: elapsed() }
          await ctx.update({}, reason)
        }
      }
      const waitMs = Math.min(wait.dueInMs(), nextExclusionEndMs(ctx) ?? Infinity)
      const provider = answer.provider ?? (await wait.within(waitMs, signal))
      // A grant that was not bound in time has gone to somebody else: wait again.
      if (provider !== null && ((provider === answer.provider && answer.bound) || (await ledger.bind(leaseId, ctx.jobId)))) {
        if (said !== null) await ctx.update({}, null)
        return provider
      }
      if (provider !== null) {
        wait.lost()
        // Should that go on, as for a job that has another place already, it is not asked over and over.
        await wait.within(settings.pollMs, signal)
      }
    }
  } catch (error) {
    await ledger.withdraw(leaseId)
    throw error
  } finally {
    waits.forget(leaseId)
  }
}

/** In how many milliseconds this job's next excluded provider comes into question again, at least 1; null when there is none. */
function nextExclusionEndMs(ctx: RunContext): number | null {
  const nowMs = ctx.shared.now()
  const ends = [...ctx.activeExclusions().values()].map(({ untilMs }) => untilMs - nowMs).filter((leftMs) => leftMs > 0)
  return ends.length === 0 ? null : Math.max(1, Math.min(...ends))
}

function mergeLoads(before: readonly ProviderLoad[], news: readonly ProviderLoad[]): ProviderLoad[] {
  return before.map((load) => news.find((item) => item.provider === load.provider) ?? load)
}

/** @param repeated the call was made before and its answer is not known: a sandbox may exist. */
async function create(ctx: RunContext, providerName: string, name: string, repeated: boolean): Promise<void> {
  const sandbox = await createSandbox(ctx, { provider: providerName, name, attempt: ctx.record.attempts.length, repeated }, ctx.work)
  // Until it is there, whoever takes over finds the sandbox by its name or tags, as when this process had died a moment before.
  ctx.send({
    phase: 'preparing',
    creating: null,
    sandbox: { ...sandbox, repositoryPath: null },
    // What had gone by of its time when it was parked.
    firstSandboxAtMs: ctx.record.firstSandboxAtMs ?? Math.max(0, ctx.shared.now() - (ctx.record.parking?.timeUsedMs ?? 0)),
    attempts: ctx.patchAttempt({ sandboxId: sandbox.id }),
    running: null,
    setupIndex: 0,
  })
}

/** Makes a sandbox for an attempt of the job, or finds the one that an earlier call made. */
export async function createSandbox(
  ctx: RunContext,
  { provider: providerName, name, attempt, repeated }: { readonly provider: string; readonly name: string; readonly attempt: number; readonly repeated: boolean },
  until: AbortSignal,
): Promise<Omit<NonNullable<RunRecord['sandbox']>, 'repositoryPath'>> {
  const { providers, settings, deployment, git, now } = ctx.shared
  const provider = providers.get(providerName)?.provider
  if (provider === undefined) throw new UnconfiguredProviderError(providerName)
  const lifetimeMs = Math.min(settings.sandboxLifetimeMs, provider.capabilities.maxLifetimeMs ?? Infinity)
  const request: SandboxRequest = {
    name,
    tags: sandboxTags({ deployment, runId: ctx.runId, attempt }),
    image: ctx.spec.image,
    resources: ctx.spec.resources,
    // Where a lifetime can't be extended it must cover all that is left of the job.
    lifetimeMs: provider.capabilities.extend ? lifetimeMs : remainingMs(ctx, provider),
    network: ctx.spec.network,
    gitHosts: git.hosts,
    ...keptSecrets(ctx, provider),
  }
  await ctx.budget.beforeCreate(providerName, attempt, repeated)
  const beganAtMs = now()
  const patience = watchCreate(ctx.shared, {
    provider: providerName,
    beganAtMs: ctx.record.creating?.atMs ?? beganAtMs,
    eligible: eligibleFor(ctx),
    exclusions: () => ctx.activeExclusions(),
  }, until)
  const { signal } = patience
  const options = { timeoutMs: settings.createTimeoutMs, signal }
  let info: SandboxInfo
  try {
    const existing = repeated && !provider.capabilities.uniqueNames ? await findCreated(provider, request, options) : undefined
    ctx.assertHeld()
    info = existing ?? (await measured(ctx, { metric: 'switchyard.sandbox.create.duration', span: 'create', attributes: { 'switchyard.provider': providerName }, labels: (outcome) => [providerName, outcome], outcomeOf: () => 'ok' }, () => untilAborted(provider.create(request, options), signal)))
  } catch (error) {
    if (signal.aborted && !until.aborted) throw signal.reason
    throw error
  } finally {
    patience.stop()
  }
  ctx.refusals.delete(providerName)
  const startMs = now() - beganAtMs
  if (!repeated) ctx.shared.starts.created(providerName, startMs)
  const { maxLifetimeMs } = provider.capabilities
  const rate = rateOf(providers.get(providerName)?.price, ctx.spec.resources, ctx.shared.currency)
  const saidAgeMs = Math.max(0, now() - (info.createdAtMs ?? (repeated ? (ctx.record.creating?.atMs ?? now()) : now())))
  // No older than the call that made it, whatever the provider's clock says.
  const ageMs = Math.min(saidAgeMs, repeated ? lifetimeMs : startMs)
  const createdAtMs = Math.max(0, Math.round(now() - ageMs))
  const billed = rate === null ? {} : { billed: { ...rate, fromMs: Math.max(0, ctx.moment.meterMs - ageMs) } }
  const endsAtMs = info.lifetimeEndsAtMs ?? (maxLifetimeMs === undefined ? undefined : (info.createdAtMs ?? now()) + maxLifetimeMs)
  const warning = lifetimeWarning(ctx.spec.steps.slice(ctx.record.stepIndex), { provider: providerName, endsAtMs, nowMs: now(), deadlineMs: ctx.deadlineMs })
  if (warning !== undefined) await ctx.say(warning)
  const beside = provider.capabilities.reach?.besideLists
  if (beside !== undefined && ctx.spec.network !== 'open' && ctx.spec.network !== 'none') await ctx.sayOnce(`network: ${providerName} keeps to the hosts that are let through, but for ${beside}`)
  return { provider: providerName, id: info.id, createdAtMs, ...(endsAtMs === undefined ? {} : { endsAtMs: Math.round(endsAtMs) }), ...billed }
}

/** Those of the job's that the provider's account keeps itself. */
function keptSecrets({ secrets }: RunContext, provider: Provider): Pick<SandboxRequest, 'keptSecrets'> {
  const kept = secrets.injected.filter(({ name }) => keepsSecret(provider, name)).map(({ name, host }) => ({ name, host }))
  return kept.length === 0 ? {} : { keptSecrets: kept }
}

function eligibleFor({ spec, shared }: RunContext): readonly string[] {
  const eligibility = eligibleHere(shared, spec)
  return eligibility.ok ? eligibility.providers.filter((provider) => !shared.keys.isRefused({ provider })) : []
}

/** The sandbox of this very attempt from a create whose answer was lost; where names are unique, `create` itself finds it. */
async function findCreated(provider: Provider, { name, tags }: SandboxRequest, options: { timeoutMs: number; signal: AbortSignal }): Promise<SandboxInfo | undefined> {
  // An earlier run of the same job may have left one with the same tags; the name tells them apart where there is one.
  for await (const info of provider.list(tags, options)) if (info.name === undefined || info.name === name) return info
  return undefined
}

function remainingMs(ctx: RunContext, provider: Provider): number {
  const left = ctx.deadlineMs + ctx.shared.settings.saveGraceMs - ctx.shared.now()
  return Math.min(Math.max(left, 60_000), provider.capabilities.maxLifetimeMs ?? Infinity)
}
