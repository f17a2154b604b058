import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const cache = resolve('.cache/clients')

/** A language's own programs, or why its tests are skipped. */
export type Found<Programs> = { readonly programs: Programs; readonly missing?: undefined } | { readonly programs?: undefined; readonly missing: string }

export const pythonFolder = resolve('clients/python')
export const goFolder = resolve('clients/go')

interface PythonPrograms {
  readonly python: string
  /** What installs into a virtual environment. */
  readonly pip: (venv: string) => readonly string[]
  readonly environment: Readonly<Record<string, string>>
}

/** Python with what the client depends on; made once for each list of dependencies, and kept in .cache. */
export async function findPython(): Promise<Found<PythonPrograms>> {
  const [, version, system = ''] = await run('python3', ['-c', 'import sys; print("%d.%02d" % sys.version_info[:2], sys.executable)']).then(({ stdout }) => /^(\S+) (.+)$/m.exec(stdout) ?? [], () => [])
  if (version === undefined) return { missing: 'there is no python3' }
  if (version < '3.10') return { missing: `python3 is ${version.replace('.0', '.')}, and the client needs 3.10` }
  const dependencies = [...(/^dependencies = \[(.*)\]$/m.exec(readFileSync(join(pythonFolder, 'pyproject.toml'), 'utf8'))?.[1] ?? '').matchAll(/"([^"]+)"/g)].map(([, name = '']) => name)
  // To give an environment a pip of its own takes as long as all the rest: the machine's serves all, where it is new enough for that.
  const pipRelease = await run(system, ['-m', 'pip', '--version']).then(({ stdout }) => Number(/^pip (\d+)/.exec(stdout)?.[1]), () => 0)
  const pip = (into: string) => (pipRelease >= 23 ? [system, '-m', 'pip', '--python', join(into, 'bin/python')] : [join(into, 'bin/python'), '-m', 'pip'])
  const venv = join(cache, `python-${createHash('sha256').update(JSON.stringify([version, dependencies])).digest('hex').slice(0, 12)}`)
  if (!existsSync(venv)) {
    await mkdir(cache, { recursive: true })
    const made = await mkdtemp(`${venv}-`)
    try {
      await run(system, ['-m', 'venv', ...(pipRelease >= 23 ? ['--without-pip'] : []), made])
      const [file = '', ...args] = pip(made)
      await run(file, [...args, 'install', '--quiet', ...dependencies], { timeout: 300_000 })
      // Another test file may have been quicker.
      await rename(made, venv).catch(() => undefined)
    } catch (error) {
      return { missing: `what the client depends on can't be installed (${String(error).split('\n').at(-2) ?? ''})` }
    } finally {
      await rm(made, { recursive: true, force: true, maxRetries: 10 })
    }
  }
  return { programs: { python: join(venv, 'bin/python'), pip, environment: { PYTHONPATH: join(pythonFolder, 'src'), PYTHONDONTWRITEBYTECODE: '1' } } }
}

/** Go, new enough. */
export async function findGo(): Promise<Found<{ readonly go: string }>> {
  const needed = /^go ([\d.]+)$/m.exec(readFileSync(join(goFolder, 'go.mod'), 'utf8'))?.[1] ?? ''
  const version = await run('go', ['env', 'GOVERSION']).then(({ stdout }) => /^go(\d+\.\d+)/.exec(stdout)?.[1], () => undefined)
  if (version === undefined) return { missing: 'there is no go' }
  if (version.localeCompare(needed, 'en', { numeric: true }) < 0) return { missing: `go is ${version}, and the client needs ${needed}` }
  return { programs: { go: 'go' } }
}
