import { readFileSync } from 'node:fs'
import { z } from 'zod'

/** The release that runs here, as its package says. */
export const release = z.object({ version: z.string() }).parse(JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))).version
