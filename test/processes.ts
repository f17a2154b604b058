import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** What `ps` says of each process of this machine, a line each. Other tests run beside this one, and what they start may have arguments of megabytes. */
export async function processes(...columns: string[]): Promise<string[]> {
  const { stdout } = await promisify(execFile)('ps', ['-axo', columns.map((column) => `${column}=`).join(',')], { maxBuffer: 512 * 1024 * 1024 })
  return stdout.split('\n').map((line) => line.trim())
}

/** Live processes of this machine whose program is `program` and whose arguments contain `marker`. */
export async function processesWith(program: string, marker: string): Promise<number[]> {
  const rows = (await processes('pid', 'stat', 'comm', 'args')).map((line) => /^(\d+)\s+(\S+)\s+(\S+)\s+(.*)$/.exec(line))
  return rows.flatMap((row) => (row !== null && !row[2]!.startsWith('Z') && row[3] === program && row[4]!.includes(marker) ? [Number(row[1])] : []))
}
