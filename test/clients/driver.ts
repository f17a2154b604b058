import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { findGo, findPython, goFolder, pythonFolder } from './languages.js'

/** What a client raised. */
export interface Raised {
  readonly kind: string
  readonly message: string
  readonly code?: string
  readonly status?: number
  readonly title?: string
  readonly problems?: readonly string[]
}

/** A client of some language, told what to do call by call; `clients/python/tests/driver.py` and `clients/go/internal/driver`. */
export interface Driver {
  /** @param onItem told of what an iterator gives. @throws RaisedError. */
  ask(op: string, args?: object, onItem?: (item: Record<string, unknown>) => void): Promise<unknown>
  close(): Promise<void>
}

export class RaisedError extends Error {
  constructor(readonly raised: Raised) {
    super(raised.message)
  }
}

export interface Language {
  readonly name: string
  /** Why it is skipped. */
  readonly missing: string | undefined
  start(): Promise<Driver>
}

/** The clients that can be tried here. */
export async function findLanguages(): Promise<readonly Language[]> {
  const [python, go] = await Promise.all([findPython(), findGo()])
  return [
    ...(['sync', 'async'] as const).map((kind) => ({
      name: `Python, ${kind}`,
      missing: python.missing,
      start: async () => drive(python.programs?.python ?? '', [join(pythonFolder, 'tests/driver.py'), kind], python.programs?.environment),
    })),
    {
      name: 'Go',
      missing: go.missing,
      start: async () => {
        const program = join(await mkdtemp(join(tmpdir(), 'sy-go-')), 'driver')
        await promisify(execFile)('go', ['build', '-o', program, './internal/driver'], { cwd: goFolder })
        return drive(program, [])
      },
    },
  ]
}

function drive(file: string, args: readonly string[], environment: Readonly<Record<string, string>> = {}): Driver {
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SWITCHYARD_') && !/_proxy$/i.test(name)))
  const child = spawn(file, args, { env: { ...inherited, ...environment }, stdio: ['pipe', 'pipe', 'pipe'] })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]() as AsyncIterator<string, undefined>
  return {
    async ask(op, asked = {}, onItem) {
      child.stdin.write(`${JSON.stringify({ op, args: asked })}\n`)
      for (;;) {
        const { value: line, done } = await lines.next()
        if (done === true) throw new Error(`the driver has ended:\n${stderr}`)
        const answer = JSON.parse(line) as { item?: Record<string, unknown>; value?: unknown; error?: Raised }
        if (answer.item !== undefined) onItem?.(answer.item)
        else if (answer.error !== undefined) throw new RaisedError(answer.error)
        else return answer.value
      }
    },
    async close() {
      child.stdin.end()
      if (child.exitCode === null && child.signalCode === null) {
        child.kill()
        await once(child, 'close')
      }
    },
  }
}
