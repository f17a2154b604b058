import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** Live processes of this machine whose program is `program` and whose arguments contain `marker`. */
export async function processesWith(program: string, marker: string): Promise<number[]> {
  const { stdout } = await promisify(execFile)('ps', ['-axo', 'pid=,stat=,comm=,args='], { maxBuffer: 64 * 1024 * 1024 })
  const rows = stdout.split('\n').map((line) => /^\s*(\d+)\s+(\S+)\s+(\S+)\s+(.*)$/.exec(line))
  return rows.flatMap((row) => (row !== null && !row[2]!.startsWith('Z') && row[3] === program && row[4]!.includes(marker) ? [Number(row[1])] : []))
}
