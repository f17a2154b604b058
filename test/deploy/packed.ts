import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { z } from 'zod'

const run = promisify(execFile)
const top = resolve('.')

/** Switchyard as `npm install` puts it somewhere: packed, and beside it what it needs to run and nothing that is for development. */
export interface Installed {
  /** The folder of a program that has it. */
  readonly folder: string
  /** Bytes of the package that is published, and of what it unpacks to. */
  readonly packedBytes: number
  readonly unpackedBytes: number
  /** What it holds. */
  readonly files: readonly string[]
  /** What it needs, by name and folder in node_modules. */
  readonly dependencies: readonly string[]
  /** Bytes of those, as their files are long. */
  readonly dependencyBytes: number
  remove(): Promise<void>
}

const packed = z.tuple([z.object({ filename: z.string(), size: z.number(), unpackedSize: z.number(), files: z.array(z.object({ path: z.string() })) })])
const lock = z.object({ packages: z.record(z.string(), z.object({ dev: z.boolean().optional(), devOptional: z.boolean().optional(), optional: z.boolean().optional(), peer: z.boolean().optional() })) })

/** Packs a copy of the checkout, which builds it, and unpacks that beside its dependencies. */
export async function installPacked(): Promise<Installed> {
  const root = await mkdtemp(join(tmpdir(), 'sy-packed-'))
  const remove = () => rm(root, { recursive: true, force: true })
  try {
    const checkout = join(root, 'checkout')
    await mkdir(checkout)
    for (const name of ['src', 'script', 'schema', 'package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json', 'LICENSE', 'README.md', 'CHANGELOG.md', 'SECURITY.md']) await cp(join(top, name), join(checkout, name), { recursive: true })
    await symlink(join(top, 'node_modules'), join(checkout, 'node_modules'))
    // npm says what the build prints before what it is asked for.
    const { stdout } = await run('npm', ['pack', '--json', '--silent'], { cwd: checkout, maxBuffer: 64 * 1024 * 1024 })
    const [{ filename, size, unpackedSize, files }] = packed.parse(JSON.parse(stdout.slice(stdout.indexOf('[\n'))))

    const folder = join(root, 'program')
    const modules = join(folder, 'node_modules')
    await mkdir(join(modules, 'switchyard'), { recursive: true })
    await run('tar', ['-xzf', join(checkout, filename), '--strip-components=1', '-C', join(modules, 'switchyard')])
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
    const dependencies = await productionDependencies()
    let dependencyBytes = 0
    for (const path of dependencies) {
      dependencyBytes += await bytesOf(join(top, path), true)
      // Those within others come along with them.
      if (path.split('node_modules/').length > 2) continue
      await mkdir(dirname(join(folder, path)), { recursive: true })
      await symlink(join(top, path), join(folder, path))
    }
    return { folder, packedBytes: size, unpackedBytes: unpackedSize, files: files.map(({ path }) => path), dependencies, dependencyBytes, remove }
  } catch (error) {
    await remove()
    throw error
  }
}

/** What the lock file installs where nothing for development is wanted, and no SDK that is optional. */
async function productionDependencies(): Promise<string[]> {
  const { packages } = lock.parse(JSON.parse(await readFile(join(top, 'package-lock.json'), 'utf8')))
  const wanted = Object.entries(packages).filter(([path, { dev = false, devOptional = false, peer = false }]) => path !== '' && !dev && !devOptional && !peer)
  const there: string[] = []
  for (const [path] of wanted) if (await stat(join(top, path)).then(() => true, () => false)) there.push(path)
  return there
}

async function bytesOf(folder: string, withoutNested: boolean): Promise<number> {
  let bytes = 0
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory() && !(withoutNested && entry.name === 'node_modules')) bytes += await bytesOf(path, withoutNested)
    else if (entry.isFile()) bytes += (await stat(path)).size
  }
  return bytes
}

/** Imports an export of the installed package in a process of its own. @returns how long that took, in milliseconds, and what it is called. */
export async function importInstalled(folder: string, name: string): Promise<{ readonly ms: number; readonly names: readonly string[] }> {
  const program = `const began = performance.now(); const all = await import(${JSON.stringify(name)}); console.log(JSON.stringify({ ms: performance.now() - began, names: Object.keys(all) })); process.exit()`
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program], { cwd: folder, env: { PATH: process.env['PATH'] } })
  return z.object({ ms: z.number(), names: z.array(z.string()) }).parse(JSON.parse(stdout))
}

/** The exports of package.json that are programs' to import. */
export async function exportedNames(): Promise<string[]> {
  const { exports } = z.object({ exports: z.record(z.string(), z.unknown()) }).parse(JSON.parse(await readFile(join(top, 'package.json'), 'utf8')))
  return Object.keys(exports).filter((path) => !path.includes('*')).map((path) => `switchyard${path.slice(1)}`)
}
