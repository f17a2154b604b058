/** A call of the API, whichever of its two addresses it came by. */
export interface ApiRoute {
  /** What is asked for: `/repositories`, `/repository` or something below that. */
  readonly path: string
  /** The repository that the address names; undefined where only the token does. */
  readonly repository?: string | undefined
}

/**
 * The maker's addresses, as one: `/api/repos`, `/api/repos/{name}` and what is below, with the name's slashes as %2F, and the
 * older `/api/v1/…`, where the repository stands in the token alone.
 * @param pathname as it was sent, not decoded.
 */
export function apiRoute(pathname: string): ApiRoute {
  const older = /^\/api\/v1\/(?:(repo)|repos(\/.*)?)$/.exec(pathname)
  if (older !== null) {
    const [, one, rest] = older
    if (one !== undefined || rest === '/delete') return { path: '/repository' }
    return rest === undefined ? { path: '/repositories' } : { path: `/repository${rest}` }
  }
  const [, name, rest = ''] = /^\/api\/repos(?:\/([^/]+)(\/.*)?)?$/.exec(pathname) ?? []
  if (name !== undefined) return { path: `/repository${rest}`, repository: decoded(name) }
  return { path: pathname === '/api/repos' ? '/repositories' : pathname }
}

/** A name that is not well encoded stays as it is: it fits no token. */
function decoded(name: string): string {
  try {
    return decodeURIComponent(name)
  } catch {
    return name
  }
}
