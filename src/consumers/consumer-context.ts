import type { Logger } from 'pino'
import type { ArtifactStore } from '../artifacts/index.js'
import type { GitHost } from '../git/host.js'
import type { EventKind } from '../job/event-kinds.js'
import type { RunnerProvider } from '../runner/calls.js'
import type { Runner } from '../runner/runner.js'
import type { Budgets } from '../store/budgets.js'
import type { ReadyJobs } from '../store/ready-jobs.js'
import type { RunStore, Taker } from '../store/run-store.js'
import type { SlotLedger } from '../store/slot-ledger.js'
import type { SlotOwners } from '../store/slot-owners.js'
import type { Metrics } from '../telemetry/metrics.js'
import type { PlacementPolicy } from './placing/placement.js'
import type { DrainWatch } from './placing/drain-watch.js'
import type { ProviderSlot } from './placing/provider-slot.js'
import type { SandboxAnswers } from './placing/sandbox-answers.js'
import type { SlotWaits } from './placing/slot-waits.js'
import type { StartReports } from './placing/start-reports.js'
import type { KeyHealth } from './key-health.js'
import type { Liveness } from './liveness.js'
import type { ConsumerSettings } from './settings.js'

/** What all jobs of a consumer share. */
export interface ConsumerContext {
  readonly deployment: string
  /** Of Switchyard. */
  readonly release: string
  /** This consumer's id, which holds leases and inboxes. */
  readonly holder: string
  readonly store: RunStore
  readonly ledger: SlotLedger
  readonly ready: ReadyJobs
  readonly owners: SlotOwners
  readonly waits: SlotWaits
  readonly starts: StartReports
  readonly answers: SandboxAnswers
  /** Which providers are to be left by what runs there. */
  readonly drains: Pick<DrainWatch, 'of'>
  readonly git: GitHost
  /** Where artifacts go; null when nobody said. */
  readonly artifacts: ArtifactStore | null
  /** In the order of the configuration. */
  readonly providers: ReadonlyMap<string, ProviderSlot>
  /** The names of the providers that live consumers have, this one's included. */
  readonly deploymentProviders: () => readonly string[]
  /** Whether its loops come round. */
  readonly liveness: Liveness
  /** Which of this consumer's keys are refused. */
  readonly keys: KeyHealth
  readonly policy: PlacementPolicy
  readonly settings: ConsumerSettings
  readonly log: Logger
  readonly metrics: Metrics
  /** The queue that it takes jobs from. */
  readonly queue: string
  /** What is told of all jobs besides their end. Left out: nothing. */
  readonly eventTypes?: readonly EventKind[] | undefined
  /** Milliseconds since 1970. */
  readonly now: () => number
  /** Milliseconds that never step, from any moment on. Default `elapsedMs`. */
  readonly elapsed?: (() => number) | undefined
  /** What jobs may cost; left out where nothing is reserved. */
  readonly budgets?: Budgets | undefined
  /** What prices are in. */
  readonly currency: string
  /** Has the reaper look at a provider where something was left behind. */
  readonly reapSoon: (provider: string, delayMs: number) => void
  /** This consumer when it takes the next job as one ends; null when it has enough, or is to look for itself. */
  readonly taker: () => Taker | null
  readonly runnerFor: (provider: RunnerProvider, sandboxId: string, image: string | undefined) => Runner
}

export function elapsedMs(): number {
  return performance.now()
}
