// How large each adapter is, and what importing its SDK costs a process that does nothing else, beside a bare Node process.
import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { z } from 'zod'
import { median, report } from './report.js'

const rounds = 7
const packages = { e2b: 'e2b', modal: 'modal', daytona: '@daytona/sdk' }
const figures: Record<string, number> = {}

for (const name of ['local', ...Object.keys(packages)]) {
  const folder = new URL(`../src/providers/${name}/`, import.meta.url)
  const texts = await Promise.all((await readdir(folder)).map((file) => readFile(new URL(file, folder), 'utf8')))
  const lines = texts.flatMap((text) => text.trimEnd().split('\n'))
  figures[`${name}.lines`] = lines.length
  // Neither blank nor a comment from its beginning.
  figures[`${name}.codeLines`] = lines.filter((line) => !/^\s*($|\/\/|\/\*|\*|#)/.test(line)).length
}

const measured = z.object({ ms: z.number(), rssMiB: z.number() })
type Cost = z.output<typeof measured>

/** In turn, so that whatever else the machine does falls on all alike. */
const costs = new Map<string, Cost[]>()
for (let round = 0; round < rounds; round++) {
  for (const [name, specifier] of [['bare', undefined], ...Object.entries(packages)] as const) {
    costs.set(name, [...(costs.get(name) ?? []), await importCost(specifier)])
  }
}
for (const [name, all] of costs) {
  if (name !== 'bare') figures[`${name}.importMs`] = Math.round(median(all.map(({ ms }) => ms)))
  figures[`${name}.rssMiB`] = Number(median(all.map(({ rssMiB }) => rssMiB)).toFixed(1))
}
await report('adapters', figures)

async function importCost(specifier: string | undefined): Promise<Cost> {
  const script = `const start = performance.now()
${specifier === undefined ? '' : `await import(${JSON.stringify(specifier)})`}
const ms = performance.now() - start
console.log(JSON.stringify({ ms, rssMiB: process.memoryUsage.rss() / 1048576 }))
process.exit(0)`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script])
  return measured.parse(JSON.parse(stdout))
}
