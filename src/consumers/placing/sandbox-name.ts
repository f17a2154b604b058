import { createHash } from 'node:crypto'

/**
 * The name of an attempt's sandbox: the same for the same attempt, so that a create can be repeated; readable as far as it
 * fits, and unique through a digest of all its parts. At most 63 characters.
 */
export function sandboxName(deployment: string, runId: string, generation: number, attempt: number): string {
  const digest = createHash('sha256').update(`${deployment}\0${runId}\0${generation}\0${attempt}`).digest('hex').slice(0, 12)
  const readable = `${deployment}-${runId}`.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 40).replace(/-+$/, '')
  return `${readable}-${attempt}-${digest}`
}
