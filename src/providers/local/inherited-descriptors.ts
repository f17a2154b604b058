import { openSync, readdirSync, readFileSync } from 'node:fs'
import type { StdioOptions } from 'node:child_process'

/** O_CLOEXEC on Linux. */
const closeOnExec = 0o2000000

/**
 * The descriptors from 3 on that this process was started with and that its children would inherit: whatever the program
 * that started the consumer forgot to close. An open folder among them would lead out of a sandbox.
 * Node opens all of its own so that children do not get them, so these are the same for the process's whole life.
 */
function findInherited(): number[] {
  if (process.platform !== 'linux') return []
  return readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => {
      if (fd < 3) return false
      let about: string
      try {
        about = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')
      } catch (error) {
        // The descriptor of the listing itself is closed by now.
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
        throw error
      }
      return (Number.parseInt(/^flags:\s*([0-7]+)/m.exec(about)?.[1] ?? '0', 8) & closeOnExec) === 0
    })
}

let shield: { readonly inherited: readonly number[]; readonly nothing: number } | undefined

/** Completes a child's `stdio` so that it gets /dev/null in the place of every descriptor that it must not inherit. */
export function withoutInherited(stdio: readonly ('pipe' | 'ignore' | number)[]): StdioOptions {
  shield ??= { inherited: findInherited(), nothing: openSync('/dev/null', 'r') }
  const all: ('pipe' | 'ignore' | number)[] = [...stdio]
  for (const fd of shield.inherited) {
    // 'ignore' leaves a descriptor from 3 on as it is.
    while (all.length <= fd) all.push('ignore')
    if (fd >= stdio.length) all[fd] = shield.nothing
  }
  return all
}
