import type { ChildProcess } from 'node:child_process'

/**
 * A child process, once it is there. Where it could not be started Node tells so by an event a moment after `spawn`, and where no
 * descriptor is left it gives a child without its streams: whoever reaches for one of them throws before it listens to that event, which
 * then ends this process. So what is spawned is handed to this at once.
 * @throws the system's error, such as EMFILE, EAGAIN or ENOENT.
 */
export async function started<Child extends ChildProcess>(child: Child): Promise<Child> {
  if (child.pid !== undefined) return child
  throw await new Promise<Error>((told) => child.once('error', told))
}
