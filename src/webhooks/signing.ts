import { Webhook } from 'standardwebhooks'
import { InvalidInputError } from '../job/errors.js'

/** Finds a signing secret's value by its name, anew each time; undefined when there is none. */
export type SigningSecrets = (name: string) => string | undefined

const fewestBytes = 24
const mostBytes = 64
/** How many a name may stand for at once, while one takes the place of another. */
const mostSecrets = 4

/**
 * What signs deliveries, by the Standard Webhooks' own library. A name stands for one secret or, while it is changed, for several with blanks
 * between them, the new one first: each signs, and a receiver takes whichever it has.
 * @throws InvalidInputError when the value is missing or is none; the value is in no message.
 */
export function signersOf(name: string, secrets: SigningSecrets): Webhook[] {
  const value = secrets(name)?.trim() ?? ''
  if (value === '') throw new InvalidInputError(`signing secret ${name}: has no value where webhooks are delivered; set the variable there, and name it in webhooks.secrets if jobs are to use it`)
  const parts = value.split(/\s+/)
  if (parts.length > mostSecrets) throw new InvalidInputError(`signing secret ${name}: holds more than ${mostSecrets} secrets; take out those that no receiver uses any more`)
  return parts.map((part) => {
    const key = part.replace(/^whsec_/, '')
    const bytes = /^[A-Za-z0-9+/]+={0,2}$/.test(key) ? Buffer.from(key, 'base64').length : 0
    if (bytes < fewestBytes || bytes > mostBytes) {
      throw new InvalidInputError(`signing secret ${name}: must be "whsec_" and ${fewestBytes} to ${mostBytes} random bytes in base64; make one with: echo "whsec_$(openssl rand -base64 32)"`)
    }
    try {
      return new Webhook(part)
    } catch {
      // The library's own words may quote it.
      throw new InvalidInputError(`signing secret ${name}: is not in base64; make one with: echo "whsec_$(openssl rand -base64 32)"`)
    }
  })
}

/** The headers of a delivery. @param body exactly as it is sent. */
export function signedHeaders(signers: readonly Webhook[], id: string, body: string, nowMs: number): Record<string, string> {
  const at = new Date(nowMs)
  return {
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(nowMs / 1000)),
    'webhook-signature': signers.map((signer) => signer.sign(id, at, body)).join(' '),
  }
}

/** An event's id as a header may hold it. */
export function headerId(id: string): string {
  return /^[\x21-\x7e]+$/.test(id) ? id : encodeURIComponent(id)
}
