import assert from 'node:assert/strict'
import { type ConformanceCase, eventually, failsAs } from './fixture.js'

/** Sandboxes come, are found again, live as long as they should, and go with everything in them. */
export const lifecycleCases: readonly ConformanceCase[] = [
  {
    name: 'checks its configuration without creating anything',
    run: async (fixture) => {
      const warnings = await fixture.provider.check(fixture.options)
      for (const warning of warnings) assert.match(warning, /\S/)
    },
  },
  {
    name: 'creates, gets and kills a sandbox',
    run: async (fixture) => {
      const request = fixture.request()
      const before = Date.now()
      const created = await fixture.provider.create(request, fixture.options)
      assert.notEqual(created.id, '')
      assert.deepEqual(created.tags, request.tags)
      const got = await fixture.provider.get(created.id, fixture.options)
      assert.equal(got?.id, created.id)
      assert.deepEqual(got.tags, request.tags)
      if (fixture.provider.capabilities.uniqueNames) assert.equal(got.name, request.name)
      // Clocks of two machines may differ by a minute.
      if (got.createdAtMs !== undefined) assert.ok(Math.abs(got.createdAtMs - before) < 120_000, `createdAtMs: ${got.createdAtMs}`)
      if (got.expiresAtMs !== undefined) assert.ok(got.expiresAtMs > before + request.lifetimeMs / 2, `expiresAtMs: ${got.expiresAtMs}`)
      await fixture.provider.kill(created.id, fixture.options)
      assert.equal(await fixture.provider.get(created.id, fixture.options), undefined)
    },
  },
  {
    name: 'knows nothing of a sandbox that never was',
    run: async (fixture) => {
      // An id of the right form, that of a sandbox which is gone, with another end.
      const { id } = await fixture.create()
      await fixture.provider.kill(id, fixture.options)
      const never = id.slice(0, -1) + (id.endsWith('0') ? '1' : '0')
      assert.equal(await fixture.provider.get(never, fixture.options), undefined)
      await fixture.provider.kill(never, fixture.options)
      await failsAs('sandbox-lost', fixture.provider, fixture.provider.exec(never, { script: 'true' }, fixture.options))
    },
  },
  {
    name: 'kills a sandbox twice',
    run: async (fixture) => {
      const { id } = await fixture.create()
      await Promise.all([fixture.provider.kill(id, fixture.options), fixture.provider.kill(id, fixture.options)])
      await fixture.provider.kill(id, fixture.options)
      assert.equal(await fixture.provider.get(id, fixture.options), undefined)
    },
  },
  {
    name: 'says sandbox-lost when it runs a command in a killed sandbox',
    run: async (fixture) => {
      const sandbox = await fixture.create()
      await fixture.exec(sandbox, 'true')
      await fixture.provider.kill(sandbox.id, fixture.options)
      await failsAs('sandbox-lost', fixture.provider, fixture.exec(sandbox, 'true'))
    },
  },
  {
    name: 'ends a running command when the sandbox is killed',
    run: async (fixture) => {
      const sandbox = await fixture.create()
      const running = fixture.exec(sandbox, 'echo started >"$HOME/started"; sleep 300').then(
        ({ exitCode }) => assert.notEqual(exitCode, 0),
        (error: unknown) => assert.equal((error as { source?: unknown }).source, fixture.provider.name, String(error)),
      )
      await eventually(async () => assert.equal((await fixture.exec(sandbox, 'cat "$HOME/started" 2>/dev/null')).stdout, 'started\n'))
      await fixture.provider.kill(sandbox.id, fixture.options)
      await running
    },
  },
  {
    name: 'kills processes that left their parent and session',
    run: async (fixture) => {
      const marker = fixture.uniqueSeconds()
      const sandbox = await fixture.create()
      // Twice forked, in no terminal and deaf to TERM and HUP, as daemons are.
      const daemon = `trap '' HUP TERM; (trap '' HUP TERM; exec sleep ${marker}) </dev/null >/dev/null 2>&1 &`
      const { exitCode } = await fixture.exec(sandbox, `if command -v setsid >/dev/null; then setsid sh -c '${daemon.replaceAll("'", `'\\''`)}'; else ${daemon} fi`)
      assert.equal(exitCode, 0)
      await fixture.someProcessBears(marker)
      await fixture.provider.kill(sandbox.id, fixture.options)
      await fixture.noProcessBears(marker)
    },
  },
  {
    name: 'finds the sandbox of a create whose answer was lost',
    run: async (fixture) => {
      const request = fixture.request()
      const { provider, options } = fixture
      const lost = new AbortController()
      const first = provider.create(request, { ...options, signal: lost.signal })
      setTimeout(() => lost.abort(new Error('the answer is lost')), 5)
      await first.catch(() => undefined)
      const second = await provider.create(request, options)
      if (provider.capabilities.uniqueNames) {
        const third = await provider.create(request, options)
        assert.equal(third.id, second.id)
      }
      // Whether or not the first came to be: all that there is bears the tags, and can be killed by what the listing says.
      await eventually(async () => {
        const found = await fixture.list(request.tags)
        assert.ok(found.some(({ id }) => id === second.id))
        if (provider.capabilities.uniqueNames) assert.equal(found.length, 1)
        for (const { id } of found) await provider.kill(id, options)
      })
      await eventually(async () => assert.deepEqual(await fixture.list(request.tags), []))
    },
  },
  {
    name: 'makes one sandbox of two creates of one name at the same time',
    run: async (fixture) => {
      if (!fixture.provider.capabilities.uniqueNames) return
      const request = fixture.request()
      const [one, two] = await Promise.all([1, 2].map(() => fixture.provider.create(request, fixture.options)))
      assert.equal(one?.id, two?.id)
      assert.equal((await fixture.list(request.tags)).length, 1)
      await fixture.provider.kill(one?.id ?? '', fixture.options)
    },
  },
  {
    name: 'creates many sandboxes at once and lists every page of them',
    run: async (fixture) => {
      const { provider, options } = fixture
      const other = await fixture.create('other')
      const jobId = 'many'
      const settled = await Promise.allSettled(Array.from({ length: fixture.manySandboxes }, () => fixture.create(jobId)))
      const ids = settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value.id] : []))
      try {
        for (const one of settled) if (one.status === 'rejected') throw one.reason
        assert.equal(new Set(ids).size, fixture.manySandboxes)
        const tags = { ...fixture.request(jobId).tags }
        await eventually(async () => {
          const found = await fixture.list(tags)
          assert.deepEqual(found.map(({ id }) => id).sort(), [...ids].sort())
          for (const sandbox of found) assert.deepEqual(sandbox.tags, tags)
          const all = (await fixture.list({})).map(({ id }) => id)
          assert.ok([...ids, other.id].every((id) => all.includes(id)), 'a list without tags misses sandboxes')
        })
        assert.deepEqual(await fixture.list({ ...tags, 'switchyard-attempt': '2' }), [])
        const outputs = await Promise.all(ids.map((id) => provider.exec(id, { script: 'printf %s "$NUMBER"', env: { NUMBER: id } }, options)))
        assert.deepEqual(outputs.map(({ stdout }) => stdout), ids)
      } finally {
        await Promise.all([other.id, ...ids].map((id) => provider.kill(id, options)))
      }
      await eventually(async () => assert.deepEqual(await fixture.list({ 'switchyard-deployment': fixture.deployment, 'switchyard-job': jobId }), []))
    },
  },
  {
    name: 'extends a lifetime, where it can',
    run: (fixture) =>
      fixture.withSandbox(async ({ id }) => {
        const lifetimeMs = 1_200_000
        const before = Date.now()
        await fixture.provider.extend(id, lifetimeMs, fixture.options)
        const info = await fixture.provider.get(id, fixture.options)
        assert.ok(info !== undefined)
        if (!fixture.provider.capabilities.extend || info.expiresAtMs === undefined) return
        const limitMs = fixture.provider.capabilities.maxLifetimeMs ?? Infinity
        // A minute for clocks that differ.
        assert.ok(info.expiresAtMs >= before + Math.min(lifetimeMs, limitMs) - 60_000, `expiresAtMs: ${info.expiresAtMs - before} ms from now`)
      }),
  },
  {
    name: 'goes on with a sandbox from another client, and past the first client’s close',
    run: (fixture) =>
      fixture.withSandbox(async (sandbox) => {
        await fixture.exec(sandbox, 'echo mine >"$HOME/left-here"')
        await fixture.withAnother(async (other) => {
          assert.equal((await other.get(sandbox.id, fixture.options))?.id, sandbox.id)
          const { stdout } = await other.exec(sandbox.id, { script: 'cat "$HOME/left-here"' }, fixture.options)
          assert.equal(stdout, 'mine\n')
        })
        assert.equal((await fixture.exec(sandbox, 'cat "$HOME/left-here"')).stdout, 'mine\n')
      }),
  },
  {
    name: 'keeps two sandboxes’ files and environments apart',
    run: (fixture) =>
      fixture.withSandbox(async (one) => {
        await fixture.withSandbox(async (two) => {
          await fixture.exec(one, { script: 'printf %s "$TOLD" >"$HOME/only-here"', env: { TOLD: 'one' } })
          const seen = await fixture.exec(two, 'if [ -e "$HOME/only-here" ]; then echo seen; else echo "none${TOLD-}"; fi')
          assert.equal(seen.stdout, 'none\n')
          assert.equal((await fixture.exec(one, 'cat "$HOME/only-here"; printf %s "${TOLD-}"')).stdout, 'one')
        })
      }),
  },
]
