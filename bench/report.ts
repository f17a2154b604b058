import { mkdir, writeFile } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'

/** Where figures go: of the folder in which a benchmark is started, the checkout's top, also for one that was compiled. */
export const out = pathToFileURL('bench/out/')

/** Prints a benchmark's figures and writes them to bench/out/NAME.json. */
export async function report(name: string, figures: Readonly<Record<string, number | string>>): Promise<void> {
  await mkdir(out, { recursive: true })
  await writeFile(new URL(`${name}.json`, out), `${JSON.stringify({ name, at: new Date().toISOString(), node: process.version, ...figures }, null, 2)}\n`)
  for (const [key, value] of Object.entries(figures)) console.log(`${key.padEnd(44)} ${value}`)
}

/** As `report`, for one row of figures each. */
export async function reportTable(name: string, rows: readonly Readonly<Record<string, number | string>>[]): Promise<void> {
  await mkdir(out, { recursive: true })
  await writeFile(new URL(`${name}.json`, out), `${JSON.stringify({ name, at: new Date().toISOString(), node: process.version, rows }, null, 2)}\n`)
  console.table(rows)
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}
