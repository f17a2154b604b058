import { createArtifactStore, type ArtifactsConfig } from '../../artifacts/index.js'
import type { Checklist } from './checklist.js'

/** Where artifacts go, as consumers write there. */
export async function checkArtifacts(
  list: Checklist,
  config: ArtifactsConfig | undefined,
  { directory, environment, timeoutMs, signal }: { readonly directory: string; readonly environment: Readonly<Record<string, string | undefined>>; readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<void> {
  if (config === undefined) return
  await list.run('store', async () => {
    const store = createArtifactStore(config, { directory, environment })
    try {
      return { value: undefined, detail: store.name, warnings: await store.check({ timeoutMs, signal }) }
    } finally {
      store.close()
    }
  })
}
