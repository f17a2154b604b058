/**
 * Git's own rules for what stands in a commit, so that what git would refuse, or change without a word, is refused before anything
 * is enqueued.
 */

/** What an author's name and address may take together with all else that one call carries into a sandbox, in bytes. */
const maxAuthorBytes = 1_000
const maxMessageBytes = 16 * 1024

/** What git takes off both ends of a name or an address; nothing is left of one that holds nothing else. */
const onlyCrud = /^[\u0000- .,:;<>"\\']*$/

/**
 * @param what `name` or `address`; git takes an address of nothing, since it can't know that there is none, but a commit by nobody is nobody's.
 * @returns the problem as half a sentence, or undefined when git takes it as it is, but for what it cuts off both ends.
 */
export function authorProblem(what: 'name' | 'address', text: string): string | undefined {
  if (text.includes('\0')) return 'holds a NUL byte'
  if (/[\n<>]/.test(text)) return 'holds a line end, "<" or ">", which git would leave out'
  if (Buffer.byteLength(text) > maxAuthorBytes) return `is longer than ${maxAuthorBytes} bytes`
  if (!onlyCrud.test(text)) return undefined
  return `holds nothing that git takes for ${what === 'name' ? 'a name' : 'an address'}`
}

/** @returns the problem as half a sentence, or undefined when `git commit` takes the message. */
export function messageProblem(message: string): string | undefined {
  if (message.includes('\0')) return 'holds a NUL byte'
  if (Buffer.byteLength(message) > maxMessageBytes) return `is longer than ${maxMessageBytes} bytes`
  // White space and trailers of this kind are no message to git.
  const saysSomething = message.split('\n').some((line) => /[^ \t\r]/.test(line) && !line.startsWith('Signed-off-by: '))
  return saysSomething ? undefined : 'is empty to git, which leaves out white space and "Signed-off-by:" lines'
}
