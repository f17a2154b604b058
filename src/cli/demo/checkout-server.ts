import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { SwitchyardError } from '../../job/errors.js'

/**
 * A server of the checkout's test/servers, as a child process. It prints where it listens as NAME=value lines, after remarks that begin with "#", and ends with its
 * standard input, so that none outlives a demo that was killed.
 */
export interface CheckoutServer {
  readonly name: string
  /** What it printed. */
  readonly variables: Readonly<Record<string, string>>
  /** What walls its sandboxes lack on this machine, in its own words. */
  readonly said: readonly string[]
  close(): Promise<void>
}

const startTimeoutMs = 180_000
const stopTimeoutMs = 20_000

/** What such a server needs and the checkout lacks, as a path; undefined when all is there. */
export function missingOfCheckout(checkout: string, name: string): string | undefined {
  const { loader, file } = program(checkout, name)
  return [file, loader].find((path) => path !== undefined && !existsSync(path))
}

/** A checkout that was compiled, as its tests do, needs no loader. */
function program(checkout: string, name: string): { readonly loader: string | undefined; readonly file: string } {
  const file = join(checkout, 'test/servers', name, 'main')
  if (existsSync(`${file}.js`)) return { loader: undefined, file: `${file}.js` }
  return { loader: join(checkout, 'node_modules/tsx/dist/loader.mjs'), file: `${file}.ts` }
}

interface StartOptions {
  /** It must hold test/servers and the dependencies. */
  readonly checkout: string
  readonly args: readonly string[]
  /** Ends the start early. */
  readonly signal: AbortSignal
}

/** @throws SwitchyardError when it does not start; it is not left running. */
export async function startCheckoutServer(name: string, options: StartOptions): Promise<CheckoutServer> {
  const { checkout, args, signal } = options
  const { loader, file } = program(checkout, name)
  const child = spawn(process.execPath, [...(loader === undefined ? [] : ['--import', loader]), file, '--with-stdin', ...args], {
    cwd: checkout,
    // Nothing that its sandboxes should not see; and a group of its own, so that Ctrl-C leaves it to be stopped in turn.
    env: { ...only(['PATH', 'HOME', 'TMPDIR']), TSX_TSCONFIG_PATH: join(checkout, 'tsconfig.json'), TSX_DISABLE_CACHE: '1' },
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  // It may end before its input does.
  child.stdin.on('error', () => undefined)
  try {
    const announcement = await announced(child, name, signal)
    return { name, ...announcement, close: () => stop(child, ended) }
  } catch (error) {
    await stop(child, ended)
    throw error
  }
}

type Child = ChildProcessByStdio<Writable, Readable, Readable>

/** What the server prints: NAME=value lines, the last one ADMIN_URL. */
async function announced(child: Child, name: string, signal: AbortSignal): Promise<Pick<CheckoutServer, 'variables' | 'said'>> {
  let stdout = ''
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr = `${stderr}${text}`.slice(-2_000)))
  return new Promise((resolve, reject) => {
    const failed = (what: string) => () => reject(new SwitchyardError(`the server ${name} of this checkout ${what}${stderr === '' ? '' : `: ${stderr.trim()}`}`))
    const timer = setTimeout(failed('did not start in time'), startTimeoutMs)
    const onAbort = () => reject(signal.reason as Error)
    child.once('error', failed('could not be started'))
    child.once('close', failed('ended before it listened'))
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    child.once('close', () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
    })
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
      if (!/^ADMIN_URL=\S+\n/m.test(stdout)) return
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      const variables = Object.fromEntries([...stdout.matchAll(/^([A-Z0-9_]+)=(\S+)$/gm)].map(([, key = '', value = '']) => [key, value]))
      resolve({ variables, said: [...stdout.matchAll(/^# (.+)$/gm)].map(([, line = '']) => line) })
    })
  })
}

/** Asks it to end, which takes its sandboxes along. */
async function stop(child: Child, ended: Promise<void>): Promise<void> {
  child.stdin.end()
  const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs)
  await ended
  clearTimeout(timer)
}

function only(names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])))
}
