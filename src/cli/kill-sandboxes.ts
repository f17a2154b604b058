import type { UncheckedConfig } from '../config/schema.js'
import { createProviders } from '../config/providers.js'
import { parseConfig } from '../config/load.js'
import { sandboxTags } from '../providers/provider.js'

const callTimeoutMs = 30_000

/**
 * Kills every sandbox of a deployment at the given providers. What others run there is left alone.
 * @throws the first failure, after every sandbox was tried: a sandbox that goes on is never called killed.
 */
export async function killSandboxes(
  entries: NonNullable<UncheckedConfig['providers']>,
  options: { readonly deployment: string; readonly directory?: string | undefined; readonly environment?: Readonly<Record<string, string | undefined>> | undefined },
): Promise<void> {
  const { deployment, directory = process.cwd(), environment = process.env } = options
  const { 'switchyard-job': _job, 'switchyard-attempt': _attempt, ...tags } = sandboxTags({ deployment, runId: '', attempt: 0 })
  const providers = await createProviders(parseConfig({ providers: entries }).providers, { directory, environment })
  const outcomes: PromiseSettledResult<unknown>[] = []
  for (const { provider } of providers) {
    const ids: string[] = []
    try {
      for await (const { id } of provider.list(tags, { timeoutMs: callTimeoutMs })) ids.push(id)
    } catch (error) {
      outcomes.push({ status: 'rejected', reason: error })
    }
    outcomes.push(...(await Promise.allSettled(ids.map((id) => provider.kill(id, { timeoutMs: callTimeoutMs })))))
    await provider.close()
  }
  const failed = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
