/**
 * Whether what was said of an image that could not be pulled or built is a registry's passing fault: it is asked too often, does not
 * answer in time, breaks off or answers 5xx. That is neither the image's fault nor the provider's.
 * @param image is left out when the text is read: a name may hold any word.
 */
export function isRegistryFault(text: string, image: string | undefined): boolean {
  const said = withoutImage(text, image)
  return passing.some((pattern) => pattern.test(said))
}

/** A text without an image's name, however a registry may write it: with its tag, without, and without the registry. */
export function withoutImage(text: string, image: string | undefined): string {
  if (image === undefined) return text
  const untagged = image.replace(/@sha256:.*$/, '').replace(/:[^/:]*$/, '')
  const names = [...new Set([image, untagged, untagged.replace(/^[^/]*[.:][^/]*\//, '')])].filter((name) => name.length > 2)
  return names.toSorted((one, other) => other.length - one.length).reduce((rest, name) => rest.replaceAll(name, '…'), text)
}

const passing = [
  /too ?many ?requests|rate limit|pull limit/i,
  /time-?out|timed out|deadline exceeded|TLS handshake/i,
  /connection (reset|refused)|broken pipe|unexpected EOF|(^|[^a-z])EOF\b|network is unreachable|no route to host/i,
  // A registry or its name server that answers with an error of its own.
  /internal server error|bad gateway|service unavailable|(unexpected|received unexpected)( HTTP)? status[^0-9]*(429|5\d\d)|status( code)?:? (429|5\d\d)\b/i,
  /no such host|server misbehaving|temporary failure in name resolution/i,
]
