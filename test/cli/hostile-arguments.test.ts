import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Command, CommanderError } from 'commander'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { exitCodes, explainFailure } from '../../src/cli/exit-codes.js'
import { type EmbeddedRedis, startRedis } from '../../src/embedded/index.js'
import { harmlessLine, harmlessText } from '../../src/job/harmless-text.js'
import { AgentQueue } from '../../src/producers/index.js'
import { oddText } from '../fuzz/arbitraries.js'
import fc from '../seeded-fast-check.js'
import { tries } from '../whole.js'

/** Every command of `switchyard`, with arguments and values of options that are wrong, huge, or made to do harm. */

/** These run until they are stopped, and what they start is another test's. */
const longLived = ['dev', 'demo', 'consume', 'mcp', 'serve', 'board']
/** These wait, or read stdin. */
const waiting = ['follow', 'wait']

let redis: EmbeddedRedis
let folder: string
let add: ((program: Command) => void)[]
const before = process.cwd()

beforeAll(async () => {
  const commands = resolve('src/cli/commands')
  const modules = await Promise.all((await readdir(commands)).filter((name) => name.endsWith('.ts')).map(async (name) => (await import(pathToFileURL(join(commands, name)).href)) as Record<string, unknown>))
  add = modules.flatMap((module) => Object.entries(module).flatMap(([name, value]) => (/^add\w+Command$/.test(name) && typeof value === 'function' ? [value as (program: Command) => void] : [])))
  ;[redis, folder] = await Promise.all([startRedis(), mkdtemp(join(tmpdir(), 'switchyard-arguments-'))])
  await writeFile(join(folder, 'switchyard.config.json'), JSON.stringify({ redis: { url: redis.url }, logs: { level: 'silent' } }))
  process.chdir(folder)
})
afterAll(async () => {
  process.chdir(before)
  await redis.close()
  await rm(folder, { recursive: true, force: true, maxRetries: 10 })
})

function newProgram(): Command {
  const program = new Command('switchyard').exitOverride().configureOutput({ writeErr: (text) => process.stderr.write(harmlessText(text)), writeOut: (text) => process.stdout.write(harmlessText(text)) })
  for (const each of add) each(program)
  const override = (command: Command) => {
    command.exitOverride()
    for (const inner of command.commands) override(inner)
  }
  override(program)
  return program
}

/** What a command left for the process to end with; TypeScript takes it for what was put there before. */
function exitCodeOf(): number {
  return Number((process as { exitCode?: number | string | null | undefined }).exitCode ?? 0)
}

/** As main.ts does it. @returns the exit code, and what was printed. */
async function run(args: readonly string[]): Promise<{ code: number; printed: string }> {
  let printed = ''
  const take = (text: unknown) => {
    printed += String(text)
    return true
  }
  const spies = [vi.spyOn(process.stdout, 'write').mockImplementation(take), vi.spyOn(process.stderr, 'write').mockImplementation(take)]
  const exitCode = process.exitCode
  process.exitCode = undefined
  try {
    await newProgram().parseAsync([...args], { from: 'user' })
    return { code: exitCodeOf(), printed }
  } catch (error) {
    if (error instanceof CommanderError) return { code: error.exitCode === 0 ? 0 : exitCodes.badInput, printed }
    const { code, lines } = explainFailure(error)
    return { code, printed: printed + lines.map(harmlessLine).join('\n') }
  } finally {
    for (const spy of spies) spy.mockRestore()
    process.exitCode = exitCode
  }
}

/** Every command that does something itself, by its words, with its options. */
function leaves(command: Command, words: readonly string[] = []): { words: readonly string[]; options: readonly { flag: string; takes: boolean }[]; positional: number }[] {
  const own = { words, positional: command.registeredArguments.length, options: command.options.filter(({ long }) => !waiting.includes(long?.slice(2) ?? '')).map(({ long, short, required, optional }) => ({ flag: long ?? short ?? '', takes: required || optional })) }
  return [...(command.commands.length === 0 ? [own] : []), ...command.commands.flatMap((inner) => leaves(inner, [...words, inner.name()]))]
}

it('no argument of any command is a defect’s cause, obeyed by a terminal, or worth more than a sentence', { timeout: 300_000 }, async () => {
  const known = await new AgentQueue({ redis: { url: redis.url } }).enqueue({ repository: 'acme/web', steps: ['true'], delay: '1h' })
  const all = leaves(newProgram()).filter(({ words }) => !longLived.includes(words[0] ?? ''))
  expect(all.length).toBeGreaterThan(25)
  const value = fc.oneof(oddText, fc.constantFrom('1', '1h', 'acme/web', 'state=failed', '2026-01-01', '{}', '"', "'", '\u009b31m', '${HOME}', '~', '/dev/null', '/proc/self/environ', 'x'.repeat(100_000)))
  const seen = new Set<string>()
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...all), fc.array(fc.oneof({ weight: 4, arbitrary: value }, { weight: 1, arbitrary: fc.constant(known.jobId) }), { minLength: 3, maxLength: 3 }), fc.array(fc.tuple(fc.nat(50), value), { maxLength: 3 }), async ({ words, options, positional }, values, flags) => {
      const given = flags.flatMap(([at, text]) => {
        const option = options[at % Math.max(1, options.length)]
        if (option === undefined) return []
        return option.takes ? [option.flag, option.flag === '--file' && text === '-' ? 'none' : text] : [option.flag]
      })
      const args = [...words, ...given, '--', ...values.slice(0, positional)]
      const late = new Promise<'late'>((resolveLate) => setTimeout(() => resolveLate('late'), 30_000).unref())
      const ended = await Promise.race([run(args), late])
      if (ended === 'late') throw new Error(`did not end: ${JSON.stringify(args).slice(0, 500)}`)
      seen.add(words.join(' '))
      expect(ended.code, `${JSON.stringify(args).slice(0, 500)}\n${ended.printed.slice(0, 2_000)}`).not.toBe(exitCodes.internal)
      expect(ended.printed).not.toMatch(/\n\s+at .*\(.*:\d+:\d+\)|unexpected error/)
      expect(ended.printed).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/)
      expect(ended.printed.length).toBeLessThan(200_000)
    }),
    { numRuns: Number(process.env['SWITCHYARD_FUZZ_RUNS'] ?? tries(250)), endOnFailure: true },
  )
  expect(seen.size).toBeGreaterThan(15)
  expect(JSON.parse(await readFile(join(folder, 'switchyard.config.json'), 'utf8'))).toHaveProperty('redis')
})
