import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { createRunner, type Runner, type SandboxFacts } from '../../runner/index.js'
import type { SandboxInfo } from '../provider.js'
import { oddValues } from './exec-cases.js'
import type { ConformanceCase, Fixture } from './fixture.js'

/** What a supervisor does in a sandbox, by the runner itself: short calls of `exec` must add up to long, exact work. */
export const runnerCases: readonly ConformanceCase[] = [
  {
    name: 'runner: finds git, the user and a home',
    run: (fixture) =>
      withRunner(fixture, async (_runner, facts) => {
        assert.match(facts.gitVersion, /^\d+\.\d+/)
        assert.match(facts.repositoryPath, /^\/.+\/repository$/)
        assert.notEqual(facts.user, '')
      }),
  },
  {
    name: 'runner: has the repository where it says, at the folder that all sandboxes have it where this one can',
    run: (fixture) =>
      withRunner(fixture, async (runner, facts, sandbox) => {
        await runner.start({ key: 'where', run: 'pwd -P', cwd: undefined, env: {} }, fixture.options)
        const { stdout } = await readAll(runner, fixture, 'where', 4_096)
        assert.equal(stdout.toString(), `${facts.repositoryPath}\n`)
        // Whoever asks again, in whatever consumer, hears the same.
        assert.equal((await createRunner({ provider: fixture.provider, sandboxId: sandbox.id }).install(fixture.options)).repositoryPath, facts.repositoryPath)
        if (fixture.provider.capabilities.sharedSystem === true) return
        const { exitCode } = await fixture.exec(sandbox, '[ -n "${SWITCHYARD_REPOSITORY_IN_HOME-}" ] || [ ! -w /home/user ]')
        assert.equal(facts.repositoryPath === '/home/user/repository', exitCode !== 0, facts.repositoryPath)
      }),
  },
  {
    name: 'runner: brings every byte of both streams, read in small pieces',
    run: (fixture) =>
      withRunner(fixture, async (runner) => {
        const octal = Array.from({ length: 256 }, (_, byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('')
        // NUL, invalid UTF-8, CR and LF in every order that a stream may be cut at.
        const script = `i=0; while [ $i -lt 40 ]; do printf '${octal}'; printf '${octal}' >&2; i=$((i+1)); done; printf 'no newline at the end'; exit 9`
        await runner.start({ key: 'bytes', run: script, cwd: undefined, env: {} }, fixture.options)
        const { stdout, stderr, exitCode } = await readAll(runner, fixture, 'bytes', 1_000)
        const all = Buffer.concat(Array.from({ length: 40 }, () => Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))))
        assert.equal(exitCode, 9)
        assert.ok(stdout.equals(Buffer.concat([all, Buffer.from('no newline at the end')])), 'the standard output has changed on its way')
        assert.ok(stderr.equals(all), 'the standard error has changed on its way')
      }),
  },
  {
    name: 'runner: brings 8 MiB out of the sandbox unchanged',
    run: (fixture) =>
      withRunner(fixture, async (runner, _facts, sandbox) => {
        const script = 'head -c 8388608 /dev/urandom >"$HOME/large" && cat "$HOME/large"'
        await runner.start({ key: 'large-out', run: script, cwd: undefined, env: {} }, fixture.options)
        const { stdout, exitCode } = await readAll(runner, fixture, 'large-out', 1_048_576)
        assert.equal(exitCode, 0)
        assert.equal(stdout.length, 8_388_608)
        const inside = await fixture.exec(sandbox, 'sha256sum <"$HOME/large"')
        assert.equal(createHash('sha256').update(stdout).digest('hex'), inside.stdout.slice(0, 64))
      }),
  },
  {
    name: 'runner: takes a step of a megabyte unchanged',
    run: (fixture) =>
      withRunner(fixture, async (runner) => {
        const payload = randomBytes(512 * 1024).toString('hex').replace(/.{100}/g, '$&\n')
        const run = `cat >"$HOME/large" <<'END-OF-PAYLOAD'\n${payload}\nEND-OF-PAYLOAD\nsha256sum <"$HOME/large"`
        await runner.start({ key: 'large-in', run, cwd: undefined, env: {} }, fixture.options)
        const { stdout, exitCode } = await readAll(runner, fixture, 'large-in', 65_536)
        assert.equal(exitCode, 0)
        assert.equal(stdout.toString().slice(0, 64), createHash('sha256').update(`${payload}\n`).digest('hex'))
      }),
  },
  {
    name: 'runner: hands a step’s environment over byte for byte',
    run: (fixture) =>
      withRunner(fixture, async (runner) => {
        const names = Object.keys(oddValues)
        const run = names.map((name) => `printf '%s\\0' "$${name}"`).join('; ')
        await runner.start({ key: 'env', run, cwd: undefined, env: oddValues }, fixture.options)
        const { stdout } = await readAll(runner, fixture, 'env', 65_536)
        assert.deepEqual(stdout.toString().split('\0').slice(0, -1), Object.values(oddValues))
      }),
  },
  {
    name: 'runner: runs a step in its folder, and tells its exit code or signal',
    run: (fixture) =>
      withRunner(fixture, async (runner, facts, sandbox) => {
        const cwd = 'some folder'
        await fixture.exec(sandbox, { script: 'mkdir "$FOLDER"', env: { FOLDER: `${facts.repositoryPath}/${cwd}` } })
        const ends = [['exit 0', 0], ['exit 1', 1], ['exit 255', 255], ['no-such-command-anywhere', 127], ['kill -TERM $$; sleep 60', 143], ['kill -KILL $$; sleep 60', 137]] as const
        for (const [index, [end, code]] of ends.entries()) {
          await runner.start({ key: `end-${index}`, run: `pwd; ${end}`, cwd, env: {} }, fixture.options)
          const { stdout, exitCode } = await readAll(runner, fixture, `end-${index}`, 4_096)
          assert.equal(exitCode, code, end)
          assert.match(stdout.toString(), /\/repository\/some folder\n$/)
        }
      }),
  },
  {
    name: 'runner: goes on with a running step from another client, at the byte where the first stopped',
    run: (fixture) =>
      withRunner(fixture, async (runner, _facts, sandbox) => {
        const run = 'echo before; while [ ! -e "$HOME/go" ]; do sleep 0.1; done; echo after; exit 4'
        await runner.start({ key: 'handover', run, cwd: undefined, env: {} }, fixture.options)
        const first = await runner.read('handover', { stdoutOffset: 0, stderrOffset: 0, waitMs: 10_000, maxBytes: 4_096 }, fixture.options)
        assert.equal(Buffer.from(first.stdout).toString(), 'before\n')
        assert.equal(first.exitCode, null)
        await fixture.withAnother(async (provider) => {
          const other = createRunner({ provider, sandboxId: sandbox.id })
          // A second start of the same step does nothing.
          await other.start({ key: 'handover', run, cwd: undefined, env: {} }, fixture.options)
          await provider.exec(sandbox.id, { script: ': >"$HOME/go"' }, fixture.options)
          const { stdout, exitCode } = await readAll(other, fixture, 'handover', 4_096, first.stdoutSize)
          assert.equal(stdout.toString(), 'after\n')
          assert.equal(exitCode, 4)
        })
      }),
  },
  {
    name: 'runner: stops a step with the processes that it started',
    run: (fixture) =>
      withRunner(fixture, async (runner) => {
        const marker = fixture.uniqueSeconds()
        await runner.start({ key: 'stopped', run: `sleep ${marker} & sleep ${marker}`, cwd: undefined, env: {} }, fixture.options)
        await fixture.someProcessBears(marker)
        await runner.stop('stopped', 500, fixture.options)
        const { exitCode } = await readAll(runner, fixture, 'stopped', 4_096)
        assert.notEqual(exitCode, 0)
        await fixture.noProcessBears(marker)
      }),
  },
]

/** Cloning, checkpoints and pushes, from inside a sandbox against a git host. */
export const gitCases: readonly ConformanceCase[] = [
  {
    name: 'git: clones, and leaves no token behind',
    run: (fixture) =>
      withRunner(fixture, async (runner, facts, sandbox) => {
        // Some compare whole seconds (busybox), so what comes later has to be later by that.
        const newer = ': >"$HOME/before"; until [ -n "$(find "$HOME/after" -newer "$HOME/before" 2>/dev/null)" ]; do sleep 1; : >"$HOME/after"; done'
        assert.equal((await fixture.exec(sandbox, newer)).exitCode, 0)
        const { base, access } = await cloned(fixture, runner)
        const script = 'git rev-parse HEAD; git status --porcelain; cat README.md; [ -x src/run.sh ] && echo executable'
        const { stdout } = await fixture.exec(sandbox, { script, cwd: facts.repositoryPath })
        assert.equal(stdout, `${base}\n# Conformance\nexecutable\n`)
        // Only what is the sandbox's own, and of that what is not older than the token: a folder for temporary files may be large.
        const search = 'find "$HOME" "${TMPDIR:-/tmp}" -type f -newer "$HOME/before" -exec grep -lF "$NEEDLE" {} + 2>/dev/null'
        const leave = await fixture.exec(sandbox, { script: `printf %s "$NEEDLE" >"\${TMPDIR:-/tmp}/left"; ${search}; rm "\${TMPDIR:-/tmp}/left"`, env: { NEEDLE: 'the search finds it' } })
        assert.match(leave.stdout, /^\S+\/left\n$/, 'the search sees nothing')
        const seen = await fixture.exec(sandbox, { script: search, env: { NEEDLE: access.token } })
        assert.equal(seen.stdout, '', 'the token is on the disk')
      }),
  },
  {
    name: 'git: brings a checkpoint back in another sandbox exactly',
    run: (fixture) =>
      withRunner(fixture, async (runner, facts, sandbox) => {
        const { base } = await cloned(fixture, runner)
        const { host, repository } = fixture.git()
        const work = `
          printf 'changed\\n' >README.md; rm src/gone.txt; chmod -x src/run.sh
          mkdir -p "new folder"; head -c 100000 /dev/urandom >"new folder/random bytes"; ln -s ../README.md "new folder/link"; echo noise >ignored.log`
        assert.equal((await fixture.exec(sandbox, { script: work, cwd: facts.repositoryPath })).exitCode, 0)
        const branch = `conformance-${randomBytes(4).toString('hex')}`
        const checkpoint = await runner.checkpoint({ parent: base, baseSha: base, message: 'Checkpoint', identity }, fixture.options)
        assert.ok(checkpoint !== null)
        await runner.push({ sha: checkpoint.sha, branch, access: await host.writeAccess(repository, { branch }) }, fixture.options)
        assert.equal(await host.branchHead(repository, { name: branch, ephemeral: true }, fixture.options), checkpoint.sha)
        const before = await digest(fixture, sandbox, facts)
        await withRunner(fixture, async (other, otherFacts, otherSandbox) => {
          const access = await host.readAccess(repository, { ephemeral: true })
          await other.clone({ access, ref: `refs/heads/${branch}`, sha: checkpoint.sha, branch: 'work', checkpoint: { ...checkpoint, headSha: base, baseSha: base } }, fixture.options)
          await other.restore({}, fixture.options)
          assert.equal(await digest(fixture, otherSandbox, otherFacts), before)
        })
      }),
  },
  {
    name: 'git: commits and pushes to the job’s branch and no other',
    run: (fixture) =>
      withRunner(fixture, async (runner, facts, sandbox) => {
        const { base } = await cloned(fixture, runner)
        const { host, repository } = fixture.git()
        await fixture.exec(sandbox, { script: 'echo done >result.txt', cwd: facts.repositoryPath })
        const final = { message: 'Finish\n', author: identity, committer: identity, dateSeconds: 1_700_000_000 }
        const { sha } = await runner.commit(final, fixture.options)
        const again = await runner.commit(final, fixture.options)
        assert.deepEqual([again.sha, again.headSha], [sha, base])
        const branch = `conformance-${randomBytes(4).toString('hex')}`
        const access = await host.writeAccess(repository, { branch })
        await runner.push({ sha, branch, access }, fixture.options)
        await runner.push({ sha, branch, access }, fixture.options)
        assert.equal(await host.branchHead(repository, { name: branch, ephemeral: true }, fixture.options), sha)
        const elsewhere = await runner.push({ sha, branch: `${branch}-other`, access }, fixture.options).catch((error: unknown) => error)
        assert.ok(elsewhere instanceof Error, 'a branch was pushed that the token is not for')
        assert.ok(!elsewhere.message.includes(access.token), 'the error holds the token')
        assert.equal(await host.branchHead(repository, { name: `${branch}-other`, ephemeral: true }, fixture.options), null)
      }),
  },
]

const identity = { name: 'Switchyard', email: 'switchyard@example.invalid' }

function withRunner(fixture: Fixture, run: (runner: Runner, facts: SandboxFacts, sandbox: SandboxInfo) => Promise<void>): Promise<void> {
  return fixture.withSandbox(async (sandbox) => {
    const runner = createRunner({ provider: fixture.provider, sandboxId: sandbox.id })
    const facts = await runner.install(fixture.options)
    // Steps run in a repository; a clone replaces it.
    await fixture.exec(sandbox, { script: 'git init -q "$FOLDER"', env: { FOLDER: facts.repositoryPath } })
    await run(runner, facts, sandbox)
  })
}

async function cloned(fixture: Fixture, runner: Runner) {
  const { host, repository } = fixture.git()
  const { ref, sha } = await host.resolve(repository, null, fixture.options)
  const access = await host.readAccess(repository, { ephemeral: false })
  await runner.clone({ access, ref, sha, branch: 'work', checkpoint: null }, fixture.options)
  return { base: sha, access }
}

/** Reads a step to its end, as a supervisor does. `stdoutOffset`: where to begin. */
export async function readAll(runner: Runner, fixture: Fixture, key: string, maxBytes: number, stdoutOffset = 0) {
  const stdout: Uint8Array[] = []
  const stderr: Uint8Array[] = []
  const offsets = { stdoutOffset, stderrOffset: 0 }
  const end = Date.now() + 2 * fixture.callTimeoutMs
  for (;;) {
    assert.ok(Date.now() < end, 'the step did not end')
    const slice = await runner.read(key, { ...offsets, waitMs: 5_000, maxBytes }, fixture.options)
    assert.ok(slice.stdout.length + slice.stderr.length <= maxBytes, 'a read returned more than was asked for')
    stdout.push(slice.stdout)
    stderr.push(slice.stderr)
    offsets.stdoutOffset += slice.stdout.length
    offsets.stderrOffset += slice.stderr.length
    if (slice.exitCode !== null && offsets.stdoutOffset >= slice.stdoutSize && offsets.stderrOffset >= slice.stderrSize) {
      return { stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr), exitCode: slice.exitCode }
    }
  }
}

/** All files of the work tree but ignored ones and git's own: paths, kinds, modes, contents. */
async function digest(fixture: Fixture, sandbox: SandboxInfo, facts: SandboxFacts): Promise<string> {
  const script = `find . -path ./.git -prune -o ! -name '*.log' -print | LC_ALL=C sort | while IFS= read -r path; do
    if [ -L "$path" ]; then echo "$path link $(readlink "$path")"
    elif [ -d "$path" ]; then echo "$path folder"
    else [ -x "$path" ] && mode=program || mode=file; echo "$path $mode $(sha256sum <"$path")"; fi
  done`
  const { stdout } = await fixture.exec(sandbox, { script, cwd: facts.repositoryPath })
  assert.match(stdout, /README\.md file/)
  return stdout
}
