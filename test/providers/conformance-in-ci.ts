import { whole } from '../whole.js'

/**
 * The cases that CI leaves out at the hosted providers and in containers, and has at this machine's sandboxes: there it has jobs of
 * test/e2e/three-providers.test.ts and docker-job.test.ts, which are cloned, saved, moved and pushed, those of credentials.test.ts, in which it looks for
 * tokens, and the cases about `exec`, of which these are made. `npm run test:long` has all of them at each.
 */
export const leftToJobs: readonly string[] = whole
  ? []
  : [
      'runner: hands a step’s environment over byte for byte',
      'runner: runs a step in its folder, and tells its exit code or signal',
      'runner: brings every byte of both streams, read in small pieces',
      'runner: brings 8 MiB out of the sandbox unchanged',
      'runner: stops a step with the processes that it started',
      'runner: goes on with a step whose process was killed with SIGKILL, from a new process',
      'git: clones, and leaves no token behind',
      'git: brings a checkpoint back in another sandbox exactly',
      'git: commits and pushes to the job’s branch and no other',
    ]
