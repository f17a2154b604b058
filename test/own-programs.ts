import { existsSync, readdirSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

/**
 * How the tests start the checkout's own programs in processes of their own: as script/test has compiled them, which takes a fifth of the
 * processor time, where nothing in src or test is newer than that; else from source, by tsx.
 */
const top = fileURLToPath(new URL('../', import.meta.url))
const compiledTop = join(top, '.cache/compiled')
const stamp = join(compiledTop, '.built')

/** Whether they are compiled. */
export const areCompiled = existsSync(stamp) && ['src', 'test'].every((folder) => newestMs(join(top, folder)) <= statSync(stamp).mtimeMs)

/** What Node is given before such a program. Most of what one makes as it starts is garbage: one thread that has room for it takes a fifth less of the processor time. */
export const loaderArgs: readonly string[] = areCompiled ? ['--single-threaded-gc', '--min-semi-space-size=32', '--max-semi-space-size=64'] : ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href]

/** The file to run or to import for one of the checkout's, which is named from its top, as `src/cli/main.ts`. */
export function ownFile(path: string): string {
  return areCompiled ? join(compiledTop, path.replace(/\.ts$/, '.js')) : join(top, path)
}

function newestMs(folder: string): number {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true })
  return Math.max(...entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => statSync(join(parentPath, name)).mtimeMs))
}
