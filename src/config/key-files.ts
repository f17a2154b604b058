import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'

type Environment = Readonly<Record<string, string | undefined>>

/**
 * An environment in which some variables stand in files: each is read anew whenever it is asked for, so that a key can be changed without
 * a restart. A file that is not there is a variable that is not set, and whoever needs it says so by its name.
 * @param files paths by the names of variables.
 * @param directory what relative paths are relative to.
 */
export function withKeyFiles<Given extends Environment>(environment: Given, files: Readonly<Record<string, string>>, directory: string): Given {
  if (Object.keys(files).length === 0) return environment
  return new Proxy(environment, {
    get(target, name) {
      const path = typeof name === 'string' && Object.hasOwn(files, name) ? files[name] : undefined
      return path === undefined ? Reflect.get(target, name) : readKey(resolve(directory, path))
    },
  })
}

/** What was read last, by file: as many as the configuration names. */
const lastRead = new Map<string, string>()

/** A file that is not there, or that this user may not read, holds no key. One that can't be read for want of a descriptor holds the key that it held. */
function readKey(path: string): string | undefined {
  try {
    // Editors end a file with a line break, which belongs to no key.
    const key = readFileSync(path, 'utf8').replace(/(\r?\n)+$/, '')
    lastRead.set(path, key)
    return key
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) lastRead.delete(path)
    return lastRead.get(path)
  }
}
