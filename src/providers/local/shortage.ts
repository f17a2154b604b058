/**
 * What this machine has nothing left of for the moment: descriptors, processes, memory. Whoever could not look for want of it knows nothing:
 * neither that a thing is missing nor that it does not work.
 */
const codes: readonly unknown[] = ['EMFILE', 'ENFILE', 'EAGAIN', 'ENOMEM']

export function isShortage(error: unknown): boolean {
  return codes.includes((error as NodeJS.ErrnoException | undefined)?.code)
}

/** For a `catch` that takes a failure for an answer: `value`, unless there was none. */
export function unlessShort<Value>(value: Value): (error: unknown) => Value {
  return (error) => {
    if (isShortage(error)) throw error
    return value
  }
}

/** @param said what a program said before it ended. @returns the error that it was ended by, where that is such a want. */
export function shortageIn(program: string, said: string): Error | undefined {
  if (!/resource temporarily unavailable|cannot allocate memory|too many open files|cannot fork/i.test(said)) return undefined
  return Object.assign(new Error(`${program} found no more processes, memory or descriptors (${said.split('\n').at(-1) ?? said})`), { code: 'EAGAIN' })
}
