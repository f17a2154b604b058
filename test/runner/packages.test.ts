import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import { InfrastructureError } from '../../src/job/errors.js'
import { callOptions, has, hasShell, processesIn, processSandbox, runStep, shells, type ProcessSandbox, type Shell } from './process-sandbox.js'

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

const systemFolders = ['/usr/bin', '/bin', '/usr/local/bin']
const find = (program: string) => systemFolders.map((folder) => join(folder, program)).find((path) => existsSync(path))
/** What the runner stands on, and no more: no git, no package manager, no sudo. */
const tools =
  'ls dd tail tr sed mkfifo mv rm ln readlink cat sleep base64 sha256sum mkdir chmod id env head cut wc grep setsid printf kill cp ps true'.split(' ')

interface Image extends ProcessSandbox {
  /** Puts a program into the image. */
  add(name: string, text: string): Promise<void>
  /** What the package managers were called with, a line each. */
  log(): Promise<string[]>
}

/** A sandbox in which there is no git, as in many images. */
async function imageWithoutGit(shell: Shell = 'sh'): Promise<Image> {
  const folder = await mkdtemp(join(tmpdir(), 'switchyard-image-'))
  undo.push(() => rm(folder, { recursive: true, force: true, maxRetries: 10 }))
  const bin = join(folder, 'bin')
  await mkdir(bin)
  for (const tool of [...tools, ...(shell.startsWith('bash') ? ['bash'] : [])]) {
    const path = find(tool)
    if (path !== undefined) await symlink(path, join(bin, tool))
  }
  const sandbox = await processSandbox({ shell, path: bin })
  undo.push(() => sandbox.close())
  const logFile = join(folder, 'log')
  await writeFile(logFile, '')
  return Object.assign(sandbox, {
    add: async (name: string, text: string) => {
      // In place of a link to this machine's own, never through it.
      await rm(join(bin, name), { force: true })
      await writeFile(join(bin, name), `#!/bin/sh\nbin=${bin} log=${logFile}\n${text}`, { flag: 'wx', mode: 0o755 })
    },
    log: async () => (await readFile(logFile, 'utf8')).split('\n').filter((line) => line !== ''),
  })
}

/** A package manager that puts the real git into the image, and knows what it is called with. */
const manager = (name: string) => `echo "${name} $*" >>$log
[ "$(readlink /proc/self/fd/0)" = /dev/null ] || { echo 'asks a question'; exit 9; }
case " $* " in
  *' update '*) : >$bin/.lists ;;
  *' install '* | *' add '* | *' -Sy '*)
    # As Debian's images, whose lists are empty.
    [ ${name} != apt-get ] || [ -e $bin/.lists ] || { echo 'E: Unable to locate package git' >&2; exit 100; }
    case " $* " in *' git '*) ln -s ${find('git') ?? ''} $bin/git ;; esac
    ;;
esac
`
const packages = { install: true, timeoutMs: 60_000 } as const

it.skipIf(!has('shellcheck'))('the script passes shellcheck', async () => {
  const { stdout } = await promisify(execFile)('shellcheck', ['--shell=sh', 'src/runner/sh/packages.sh']).catch((error: unknown) => error as { stdout: string })
  expect(stdout).toBe('')
})

describe.skipIf(process.getuid?.() !== 0)('git that an image lacks', () => {
  it.each<[string, string[]]>([
    ['apt-get', ['apt-get -qq -o Acquire::Retries=2 -o DPkg::Lock::Timeout=60 update', 'apt-get -qq -o DPkg::Lock::Timeout=60 install -y --no-install-recommends git']],
    ['apk', ['apk add --no-cache git']],
    ['dnf', ['dnf install -y git']],
    ['microdnf', ['microdnf install -y git']],
    ['yum', ['yum install -y git']],
    ['zypper', ['zypper --non-interactive --gpg-auto-import-keys install --no-recommends git']],
    ['pacman', ['pacman -Sy --noconfirm --needed git']],
  ])('is installed with %s', async (name, calls) => {
    const image = await imageWithoutGit()
    await image.add(name, manager(name))
    const facts = await image.runner().install({ ...callOptions, packages })
    expect(facts).toMatchObject({ installed: `git with ${name}`, gitVersion: expect.stringMatching(/^\d+\.\d+/) as string })
    expect(await image.log()).toEqual(calls)
    // Once.
    expect(await image.runner().install({ ...callOptions, packages })).toMatchObject({ installed: null })
    expect(await image.log()).toEqual(calls)
  })

  it.each(shells.filter(hasShell))('is installed under %s', async (shell) => {
    const image = await imageWithoutGit(shell)
    await image.add('apt-get', manager('apt-get'))
    expect(await image.runner().install({ ...callOptions, packages })).toMatchObject({ installed: 'git with apt-get' })
    expect((await runStep(image.runner(), 'git --version')).stdout.toString()).toMatch(/^git version/)
  })

  it('is installed once, also when answers are lost and another consumer takes over in the middle', async () => {
    const image = await imageWithoutGit()
    await image.add('apk', `${manager('apk')}while [ ! -e $bin/go-on ]; do sleep 0.05; done\n`)
    let [calls, cuts] = [0, 0]
    // Of the two that ask by turns each cut could meet the same one: a call is tried four times.
    image.fault = () => ((calls += 1) % 4 === 0 && (cuts += 1) <= 3 ? Promise.reject(new InfrastructureError({ kind: 'transient', source: 'test', message: 'test: cut' })) : undefined)
    const first = image.runner().install({ ...callOptions, packages })
    await expect.poll(async () => (await image.log()).length).toBe(1)
    const second = image.runner().install({ ...callOptions, packages })
    await image.add('go-on', '')
    expect((await first).gitVersion).toMatch(/^\d/)
    expect((await second).gitVersion).toMatch(/^\d/)
    expect(cuts).toBeGreaterThan(0)
    expect(await image.log()).toHaveLength(1)
  })

  it('is installed on the second try when a mirror failed', async () => {
    const image = await imageWithoutGit()
    await image.add('apk', `[ -e $bin/tried ] || { : >$bin/tried; echo 'apk failed' >>$log; exit 1; }\n${manager('apk')}`)
    expect(await image.runner().install({ ...callOptions, packages })).toMatchObject({ installed: 'git with apk' })
    expect(await image.log()).toEqual(['apk failed', 'apk add --no-cache git'])
  })

  it('is installed with a sudo that asks for no password, where the user is not root', async () => {
    const image = await imageWithoutGit()
    await image.add('apk', manager('apk'))
    await image.add('id', 'case $1 in -u) echo 1000 ;; *) echo user ;; esac')
    await image.add('sudo', 'shift; exec "$@"')
    expect(await image.runner().install({ ...callOptions, packages })).toMatchObject({ installed: 'git with apk', user: 'user' })
  })

  it.each<[string, (image: Image) => Promise<void>, string]>([
    ['the user is not root', async (image) => { await image.add('apk', manager('apk')); await image.add('id', 'echo 1000') }, "the sandbox's user is not root and has no sudo without a password"],
    ['sudo asks for a password', async (image) => { await image.add('apk', manager('apk')); await image.add('id', 'echo 1000'); await image.add('sudo', 'exit 1') }, 'not root and has no sudo without a password'],
    ['there is no package manager', async () => undefined, 'the image has no package manager that is known (apt-get, apk, dnf, microdnf, yum, zypper, pacman)'],
    ['the installation fails', (image) => image.add('apt-get', 'echo "Reading lists"; echo "E: Could not resolve mirror.example.org" >&2; echo "W: ignored" >&2; exit 100'), 'apt-get ended with 100 (E: Could not resolve mirror.example.org)'],
    ['it ends well and there is still no git', (image) => image.add('apk', 'exit 0'), 'apk installed it, but not where it is found'],
  ])('is missing for good when %s, and the error names the image and the mend', async (_why, prepare, because) => {
    const image = await imageWithoutGit()
    await prepare(image)
    const error = await image.runner({ image: 'python:3.12-slim' }).install({ ...callOptions, packages }).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ kind: 'invalid', message: expect.stringContaining(`the image "python:3.12-slim" has no git, and it could not be installed: `) as string })
    expect((error as Error).message).toContain(because)
    expect((error as Error).message).toMatch(/; use an image with git.*apt-get install git ca-certificates, Alpine: apk add git ca-certificates/)
  })

  it('is missing for good when the installation does not end, and nothing of it goes on', async () => {
    const image = await imageWithoutGit()
    await image.add('apk', 'echo started >>$log; sleep 600')
    await expect(image.runner().install({ ...callOptions, packages: { install: true, timeoutMs: 1_500 } })).rejects.toMatchObject({
      kind: 'invalid',
      message: expect.stringContaining('apk did not end within 2 s') as string,
    })
    expect(await image.log()).toEqual(['started'])
    await expect.poll(() => processesIn(image.home)).toEqual([])
  })

  it('is not installed where that is not to be, and nothing is tried', async () => {
    const image = await imageWithoutGit()
    await image.add('apk', manager('apk'))
    await expect(image.runner().install({ ...callOptions, packages: { install: false, because: 'consumer.installGit is false' } })).rejects.toMatchObject({
      kind: 'invalid',
      message: expect.stringContaining('has no git, and it could not be installed: consumer.installGit is false; use an image') as string,
    })
    await expect(image.runner().install(callOptions)).rejects.toThrow('has no git; use an image')
    expect(await image.log()).toEqual([])
  })
})
