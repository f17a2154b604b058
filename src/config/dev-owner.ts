import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { isAlive } from '../providers/local/process-identity.js'

/** Who runs a `switchyard dev`, as it stands in its folder, and what it was started with. */
const devOwnerSchema = z.object({
  pid: z.int().min(1),
  startTime: z.string(),
  /** Its repositories, the folders that they were filled from, and the commits. */
  origins: z.array(z.object({ repository: z.string(), source: z.string(), head: z.string().optional() })),
})
export type DevOwner = z.output<typeof devOwnerSchema>

export const devOwnerFile = 'owner.json'

/** @returns undefined when there is none: of an earlier release, or cut off. */
export async function readDevOwner(folder: string): Promise<DevOwner | undefined> {
  try {
    return devOwnerSchema.parse(JSON.parse(await readFile(join(folder, devOwnerFile), 'utf8')))
  } catch {
    return undefined
  }
}

/** Whether the `dev` whose folder this is runs now. */
export async function devRuns(folder: string): Promise<boolean> {
  const owner = await readDevOwner(folder)
  return owner !== undefined && (await isAlive(owner))
}
