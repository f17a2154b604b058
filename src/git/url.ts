import { InvalidInputError } from '../job/errors.js'

/**
 * Checks the base URL of a host: HTTPS, or plain HTTP to this machine, since a token goes along with every call.
 * @returns it without a slash at its end.
 * @throws InvalidInputError that names the field.
 */
export function baseUrl(field: string, text: string): string {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    throw new InvalidInputError(`${field}: is not a URL; write it as https://host`)
  }
  if (url.username !== '' || url.password !== '') throw new InvalidInputError(`${field}: holds credentials; leave them out`)
  if (url.search !== '' || url.hash !== '') throw new InvalidInputError(`${field}: has a query or a fragment; leave it out`)
  const local = ['127.0.0.1', 'localhost', '[::1]'].includes(url.hostname)
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && local)) {
    throw new InvalidInputError(`${field}: "${url.protocol}//${url.host}" would carry tokens in the clear; use https (http only for 127.0.0.1)`)
  }
  return url.href.replace(/\/+$/, '')
}

/** A base URL's host, with its port where it is not 443: plain HTTP at its usual port is "host:80". */
export function hostWithPort(url: string): string {
  const { host, port, protocol } = new URL(url)
  return protocol === 'http:' && port === '' ? `${host}:80` : host
}
