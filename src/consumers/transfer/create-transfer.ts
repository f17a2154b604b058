import type { CredentialMode } from './credentials.js'
import type { ConsumerSettings } from '../settings.js'
import { brokeredTransfer } from './brokered.js'
import { injectedTransfer } from './injected.js'
import { mintedTransfer } from './minted.js'
import type { InjectHeaders, Transfer, TransferParts } from './transfer.js'

/** The way that a provider's `credentials` name. That the provider can inject headers was checked when the consumer started. */
export function createTransfer(
  mode: CredentialMode,
  parts: TransferParts & {
    readonly injectHeaders: InjectHeaders | undefined
    readonly settings: Pick<ConsumerSettings, 'callTimeoutMs' | 'maxPackBytes'>
  },
): Transfer {
  const { injectHeaders, settings } = parts
  switch (mode) {
    case 'minted':
      return mintedTransfer(parts)
    case 'brokered':
      return brokeredTransfer({ ...parts, maxBytes: settings.maxPackBytes })
    case 'injected': {
      if (injectHeaders === undefined) throw new Error('credentials "injected" at a provider that injects no headers')
      return injectedTransfer({ ...parts, injectHeaders, callTimeoutMs: settings.callTimeoutMs })
    }
  }
}
