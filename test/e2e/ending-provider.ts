import { readFile, stat } from 'node:fs/promises'
import type { Provider } from '../../src/providers/provider.js'
import { altered } from './deployment.js'

/**
 * A provider of whose sandboxes those that are there when `endFile` is written are said to end at the moment that it names, in milliseconds
 * since 1970. They never do in truth.
 */
export function endingProvider(real: Provider, endFile: string): Provider {
  return altered<Provider>(real, {
    create: async (request, options) => await real.create({ ...request, lifetimeMs: 600_000 }, options),
    extend: async (id, lifetimeMs, options) => {
      await real.extend(id, Math.max(lifetimeMs, 600_000), options)
      const [info, said] = await Promise.all([real.get(id, options), stat(endFile).catch(() => undefined)])
      if (info === undefined || said === undefined || (info.createdAtMs ?? 0) > said.mtimeMs) return undefined
      const endsAtMs = Number(await readFile(endFile, 'utf8'))
      return { expiresAtMs: endsAtMs, lifetimeEndsAtMs: endsAtMs }
    },
  })
}
