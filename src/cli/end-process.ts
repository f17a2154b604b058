/** More than what was written last needs to reach a pipe's reader. */
const patienceMs = 2_000

/**
 * Ends this process, whose work is done and whose connections are closed: by itself as a rule. A call inside of an SDK that its
 * server never answers can't be broken off from outside (the Modal SDK's calls to a sandbox's worker take no signal), and would keep a
 * consumer from ending until it is killed.
 */
export function endProcess(): void {
  setTimeout(() => process.exit(), patienceMs).unref()
}
