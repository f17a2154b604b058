/**
 * What others say, without the keys that they were called with: git hosts and proxies quote the header of a request that they refuse. Before
 * anything of it is cut or told.
 */

const mark = '***'
/** Shorter ones stand in much that is none of them, encoded. */
const leastEncoded = 8

/** Takes each out as it is, and as URLs, hex and base64 have it, there also as a part of a longer text (`user:token`). */
export function struckOut(text: string, secrets: readonly string[]): string {
  const forms = new Set(secrets.filter((secret) => secret !== '').flatMap(formsOf))
  // The longest first: none leaves a part of another one.
  return [...forms].sort((one, other) => other.length - one.length).reduce((rest, form) => rest.replaceAll(form, mark), text)
}

function formsOf(secret: string): string[] {
  if (secret.length < leastEncoded) return [secret]
  const bytes = Buffer.from(secret)
  const inUrl = /^[\x20-\x7e]*$/.test(secret) ? encodeURIComponent(secret) : secret
  const encoded = base64Cores(bytes).flatMap((core) => [core, core.replaceAll('+', '-').replaceAll('/', '_'), encodeURIComponent(core)])
  return [secret, inUrl, JSON.stringify(secret).slice(1, -1), bytes.toString('hex'), ...encoded.filter((form) => form.length >= leastEncoded)]
}

/** The keys in a request's own headers: a value without its scheme, and of `Basic` what is in it. */
export function keysIn(headers: Readonly<Record<string, string>>): string[] {
  return Object.values(headers).flatMap((value) => {
    const [scheme = '', rest] = value.split(/ +(.*)/s)
    if (rest === undefined) return [value]
    if (scheme.toLowerCase() !== 'basic') return [rest]
    const password = Buffer.from(rest, 'base64').toString().split(/:(.*)/s)[1]
    return [rest, ...(password === undefined ? [] : [password])]
  })
}

/** Its base64 by where it begins within a longer text, which decides the characters; those that its neighbours have a part in are left out. */
export function base64Cores(bytes: Buffer): string[] {
  return [0, 1, 2].map((before) => {
    const shifted = Buffer.concat([Buffer.alloc(before), bytes])
    return shifted.toString('base64').replace(/=+$/, '').slice([0, 2, 3][before], shifted.length % 3 === 0 ? undefined : -1)
  })
}
