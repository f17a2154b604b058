/**
 * A key as its parsers read it, of one that has been through an environment variable: line ends written as `\n`, lost, or become blanks.
 * What is no such text is given back as it is.
 */
export function readablePem(given: string): string {
  const text = given.replaceAll(/\\r\\n|\\n/g, '\n')
  const [, kind, body] = /^\s*-----BEGIN ([A-Z ]+)-----([A-Za-z0-9+/=\s]+)-----END \1-----\s*$/.exec(text) ?? []
  if (kind === undefined || body === undefined) return text
  const lines = body.replace(/\s+/g, '').match(/.{1,64}/g) ?? []
  return `-----BEGIN ${kind}-----\n${lines.join('\n')}\n-----END ${kind}-----\n`
}
