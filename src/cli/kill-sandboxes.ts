import type { ConfigInput } from '../config/define.js'
import { createProviders } from '../config/providers.js'
import { parseConfig } from '../config/load.js'

const callTimeoutMs = 30_000

/**
 * Kills every sandbox of the given providers, whoever made it.
 * @throws the first failure, after every sandbox was tried: a sandbox that goes on is never called killed.
 */
export async function killAllSandboxes(entries: NonNullable<ConfigInput['providers']>): Promise<void> {
  const providers = await createProviders(parseConfig({ providers: entries }).providers)
  const outcomes: PromiseSettledResult<void>[] = []
  for (const { provider } of providers) {
    const ids: string[] = []
    for await (const { id } of provider.list({}, { timeoutMs: callTimeoutMs })) ids.push(id)
    outcomes.push(...(await Promise.allSettled(ids.map((id) => provider.kill(id, { timeoutMs: callTimeoutMs })))))
    await provider.close()
  }
  const failed = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
