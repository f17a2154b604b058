import type { InfrastructureError } from '../../job/errors.js'
import type { ProviderReport } from '../../store/slot-ledger.js'

/**
 * What all consumers should know of an error that makes a job leave a provider. A lost sandbox says nothing about the provider,
 * and what is wrong with a job (`invalid`, its own timeouts) neither: only infrastructure counts for the breaker.
 */
export function reportFor(error: Pick<InfrastructureError, 'kind' | 'retryAfterMs'>): ProviderReport | null {
  switch (error.kind) {
    case 'capacity':
      return { kind: 'capacity' }
    case 'rate-limited':
      return { kind: 'rate-limited', retryAfterMs: error.retryAfterMs }
    // Passing faults and silence count once they were tried in place often enough to make the job leave.
    case 'transient':
    case 'timeout':
    case 'provider-down':
      return { kind: 'down' }
    case 'auth':
      return { kind: 'auth' }
    case 'sandbox-lost':
    case 'invalid':
      return null
  }
}
