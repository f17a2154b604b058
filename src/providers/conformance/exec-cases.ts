import assert from 'node:assert/strict'
import { type ConformanceCase, eventually, failsAs, type Fixture } from './fixture.js'

/** Values that quoting, JSON, argv or a line-based protocol may break. */
export const oddValues: Readonly<Record<string, string>> = {
  EMPTY: '',
  QUOTES: `'single' "double" \`back\` $HOME \${HOME} $(echo no) \\ \\n !! # ; & |`,
  LINES: '\nfirst\n\nlast\n\n',
  CONTROLS: '\t\r\u0001\u001b[31m\u007f',
  WIDE: 'ÄÖ€ 漢字 😀 \u2028 \ufeff',
  DASH: '-n -e',
  EQUALS: 'a=b=c',
  LONG: 'x'.repeat(8_192),
  SPACES: '  two  spaces  ',
}

/** `exec` is a faithful `/bin/sh -c` with a deadline: everything that Switchyard does in a sandbox is made of it. */
export const execCases: readonly ConformanceCase[] = [
  {
    name: 'returns exit codes as results',
    run: async (fixture) => {
      for (const exitCode of [0, 1, 3, 126, 255]) {
        assert.deepEqual(await fixture.sharedExec(`echo out; exit ${exitCode}`), { exitCode, stdout: 'out\n' })
      }
      assert.equal((await fixture.sharedExec('no-such-command-anywhere 2>/dev/null')).exitCode, 127)
      assert.equal((await fixture.sharedExec('if then fi 2>/dev/null')).exitCode !== 0, true)
    },
  },
  {
    name: 'returns 128 + n for a signal',
    run: async (fixture) => {
      assert.equal((await fixture.sharedExec('kill -KILL $$')).exitCode, 137)
      assert.equal((await fixture.sharedExec('kill -TERM $$')).exitCode, 143)
      assert.equal((await fixture.sharedExec('sh -c \'kill -KILL $$\'')).exitCode, 137)
    },
  },
  {
    name: 'starts in the home folder or in cwd',
    run: async (fixture) => {
      assert.equal((await fixture.sharedExec({ script: 'pwd', cwd: '/' })).stdout, '/\n')
      const folder = `it's a "folder" $HOME`
      const made = await fixture.sharedExec({ script: 'mkdir -p "$HOME/$NAME" && cd "$HOME/$NAME" && pwd -P', env: { NAME: folder } })
      assert.equal(made.exitCode, 0)
      const cwd = made.stdout.slice(0, -1)
      assert.equal((await fixture.sharedExec({ script: 'pwd -P', cwd })).stdout, made.stdout)
      const missing = await fixture.sharedExec({ script: 'echo ran', cwd: `${cwd}/missing` }).catch((error: unknown) => error)
      assert.ok(missing instanceof Error || (missing as { exitCode: number }).exitCode !== 0, 'a command ran though its cwd does not exist')
    },
  },
  {
    name: 'hands environment values over byte for byte',
    run: async (fixture) => {
      for (const [name, value] of Object.entries(oddValues)) {
        const { stdout } = await fixture.sharedExec({ script: `printf %s "$${name}" | od -An -v -tx1 | tr -d ' \\n'`, env: oddValues })
        assert.equal(stdout, Buffer.from(value).toString('hex'), name)
      }
    },
  },
  {
    name: 'runs the script byte for byte',
    run: async (fixture) => {
      for (const [name, value] of Object.entries(oddValues)) {
        const quoted = `'${value.replaceAll("'", `'\\''`)}'`
        const { stdout } = await fixture.sharedExec(`printf %s ${quoted} | od -An -v -tx1 | tr -d ' \\n'`)
        assert.equal(stdout, Buffer.from(value).toString('hex'), name)
      }
    },
  },
  {
    name: 'takes scripts of many lines with here-documents',
    run: async (fixture) => {
      const { stdout } = await fixture.sharedExec('cat <<"END"\n$HOME `x`\n\tindented\nEND\nfor i in 1 2; do\n  echo $i\ndone\n# the end')
      assert.equal(stdout, '$HOME `x`\n\tindented\n1\n2\n')
    },
  },
  {
    name: 'takes a script of capabilities.maxCommandBytes',
    run: async (fixture) => {
      const start = 'printf "%s" "$LAST" #'
      const { maxCommandBytes } = fixture.provider.capabilities
      assert.ok(maxCommandBytes >= 4096, `maxCommandBytes: ${maxCommandBytes}`)
      const script = start.padEnd(maxCommandBytes, 'x')
      assert.deepEqual(await fixture.sharedExec({ script, env: { LAST: 'read to its end' } }), { exitCode: 0, stdout: 'read to its end' })
    },
  },
  {
    name: 'returns the standard output whole, up to 4 MiB',
    run: async (fixture) => {
      for (const bytes of [0, 1, 4_095, 65_536, 1_048_576, 4_194_304]) {
        const { stdout, exitCode } = await fixture.sharedExec(`head -c ${bytes} /dev/zero | tr '\\0' x; exit 5`)
        assert.equal(stdout.length, bytes)
        assert.ok(/^x*$/.test(stdout))
        assert.equal(exitCode, 5)
      }
      assert.equal((await fixture.sharedExec('printf "a\\n\\nb\\n\\n"')).stdout, 'a\n\nb\n\n')
      assert.equal((await fixture.sharedExec('printf " no newline"')).stdout, ' no newline')
    },
  },
  {
    name: 'gives commands an empty standard input',
    run: async (fixture) => {
      assert.deepEqual(await fixture.sharedExec('cat; echo ended', { timeoutMs: 20_000 }), { exitCode: 0, stdout: 'ended\n' })
    },
  },
  {
    name: 'returns when the command ends, not when what it started in the background does',
    run: async (fixture) => {
      const { stdout } = await fixture.sharedExec('sleep 200 </dev/null >/dev/null 2>&1 & echo started', { timeoutMs: 20_000 })
      assert.equal(stdout, 'started\n')
    },
  },
  {
    name: 'leaves detached processes running between commands',
    run: (fixture) =>
      fixture.withSandbox(async (sandbox) => {
        const script = '(i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo $i >"$HOME/count"; sleep 0.1; done) </dev/null >/dev/null 2>&1 &'
        await fixture.exec(sandbox, script)
        const count = async () => Number((await fixture.exec(sandbox, 'cat "$HOME/count" 2>/dev/null')).stdout)
        const first = await count()
        await eventually(async () => assert.ok((await count()) > first, 'the process started in the background does not go on'))
      }),
  },
  {
    name: 'ends a call at its deadline with timeout, and the sandbox lives',
    run: (fixture) =>
      fixture.withSandbox(async (sandbox) => {
        const error = await failsAs('timeout', fixture.provider, fixture.exec(sandbox, 'sleep 300', { timeoutMs: 1_500 }))
        assert.match(error.message, /\S/)
        assert.equal((await fixture.exec(sandbox, 'echo alive')).stdout, 'alive\n')
      }),
  },
  {
    name: 'ends a call when its signal aborts, with the signal’s reason',
    run: async (fixture) => {
      const controller = new AbortController()
      const reason = new Error('not wanted any more')
      const sandbox = await fixture.shared()
      const call = fixture.exec(sandbox, 'sleep 300', { signal: controller.signal }).catch((error: unknown) => error)
      setTimeout(() => controller.abort(reason), 300)
      assert.equal(await call, reason)
      const late = fixture.exec(sandbox, 'true', { signal: controller.signal }).catch((error: unknown) => error)
      assert.equal(await late, reason)
      assert.equal((await fixture.exec(sandbox, 'echo alive')).stdout, 'alive\n')
    },
  },
  {
    name: 'runs commands side by side',
    run: async (fixture) => {
      await fixture.shared()
      const numbers = Array.from({ length: 10 }, (_, index) => String(index))
      // Each waits for the one before it: they end only if they run at the same time.
      const results = await Promise.all(
        numbers.map((number) =>
          fixture.sharedExec({
            script: 'cd "$HOME"; : >"side-$N"; while [ "$N" != 9 ] && [ ! -e "side-$((N+1))" ]; do sleep 0.05; done; printf %s "$N"',
            env: { N: number },
          }),
        ),
      )
      assert.deepEqual(results.map(({ stdout }) => stdout), numbers)
    },
  },
  {
    name: 'shows commands nothing of the consumer’s environment',
    run: (fixture) => withCanary(async (name, value) => {
      await fixture.withSandbox(async (sandbox) => {
        const { stdout } = await fixture.exec(sandbox, `printf %s "\${${name}-unset}"; env | grep -c '${value}'`)
        assert.equal(stdout, 'unset0\n')
      })
    }),
  },
  {
    name: 'keeps environment values and command texts out of its errors',
    run: (fixture) =>
      fixture.withSandbox(async (sandbox) => {
        const secret = 'secret-5f2b9c'
        const command = { script: `: ${secret}-script; sleep 300`, env: { TOKEN: `${secret}-value` } }
        const late = await failsAs('timeout', fixture.provider, fixture.exec(sandbox, command, { timeoutMs: 1_000 }))
        await fixture.provider.kill(sandbox.id, fixture.options)
        const lost = await failsAs('sandbox-lost', fixture.provider, fixture.exec(sandbox, command))
        for (const error of [late, lost]) assert.ok(!allText(error).includes(secret), `the error holds a secret: ${error.message}`)
      }),
  },
  {
    name: 'has the tools that the runner needs',
    run: async (fixture: Fixture) => {
      const tools = ['sh', 'git', 'od', 'tr', 'head', 'tail', 'cat', 'sed', 'mkdir', 'mv', 'rm', 'sleep', 'kill', 'date', 'wc']
      const { stdout } = await fixture.sharedExec(`for tool in ${tools.join(' ')}; do command -v "$tool" >/dev/null || echo "$tool"; done`)
      assert.equal(stdout, '', 'tools are missing in the image')
    },
  },
]

async function withCanary(run: (name: string, value: string) => Promise<void>): Promise<void> {
  const name = 'SWITCHYARD_CONFORMANCE_CANARY'
  const value = 'canary-41c0de'
  process.env[name] = value
  try {
    await run(name, value)
  } finally {
    Reflect.deleteProperty(process.env, name)
  }
}

/** An error's message and stack, and those of its causes. */
function allText(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return `${error.message}\n${error.stack ?? ''}\n${error.cause === undefined ? '' : allText(error.cause)}`
}
