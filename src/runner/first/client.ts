import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { GitAccess } from '../../git/host.js'
import { InfrastructureError } from '../../job/errors.js'
import type { Provider } from '../../providers/provider.js'
import { numberField, parseAnswer, textField, type Answer } from './answer.js'
import { runnerFailure } from './failures.js'
import type { OutputSlice, Runner, RunnerCallOptions, SandboxFacts } from '../runner.js'
import { quoted, runnerScript, scriptPath } from './script.js'

export interface RunnerOptions {
  readonly provider: Provider
  readonly sandboxId: string
  /** For messages: what the sandbox was made from. */
  readonly image?: string | undefined
  /** Pauses between repetitions, in milliseconds; as many repetitions as there are pauses. Default 100, 400. */
  readonly retryPausesMs?: readonly number[] | undefined
}

interface Call {
  readonly verb: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly access?: GitAccess
}

const missing = '@switchyard-script-missing'

/** The runner of one sandbox; it holds nothing, so any number of them, in any process, may stand beside each other. */
export function createRunner(options: RunnerOptions): Runner {
  const { provider, sandboxId } = options
  const pausesMs = options.retryPausesMs ?? [100, 400]
  const b64 = (text: string) => Buffer.from(text).toString('base64')

  async function exec(script: string, env: Readonly<Record<string, string>>, call: RunnerCallOptions): Promise<string> {
    return (await provider.exec(sandboxId, { script, env }, call)).stdout
  }

  /** Writes a file in pieces that every provider takes, under a name of its own first: a half file is never used. */
  async function put(path: string, text: string, call: RunnerCallOptions): Promise<void> {
    const encoded = b64(text)
    const size = Math.max(1_024, Math.floor(Math.min(provider.capabilities.maxCommandBytes, 96 * 1024) - 1_024))
    const part = `"$HOME"/.switchyard/put-${randomBytes(6).toString('hex')}`
    for (let at = 0; at < encoded.length || at === 0; at += size) {
      await exec(`mkdir -p "$HOME"/.switchyard && printf %s ${quoted(encoded.slice(at, at + size))} ${at === 0 ? '>' : '>>'} ${part}`, {}, call)
    }
    const done = await exec(
      `{ base64 -d <${part} >${part}.d 2>/dev/null || base64 -D <${part} >${part}.d; } && mv ${part}.d ${path} && rm -f ${part} && echo put`,
      {},
      call,
    )
    if (!done.includes('put')) {
      throw new InfrastructureError({ kind: 'transient', source: provider.name, message: `${provider.name}: a file could not be written in the sandbox` })
    }
  }

  async function once({ verb, args, env, access }: Call, call: RunnerCallOptions): Promise<Answer> {
    const nonce = randomBytes(6).toString('hex')
    const words = [nonce, verb, ...args].map(quoted).join(' ')
    const script = `[ -f ${scriptPath} ] || { echo ${missing}; exit 0; }; exec sh ${scriptPath} ${words}`
    const secrets = access === undefined ? {} : { SWITCHYARD_USERNAME: access.username, SWITCHYARD_TOKEN: access.token }
    for (let installed = false; ; installed = true) {
      const stdout = await exec(script, { ...env, ...secrets }, call)
      const answer = parseAnswer(stdout, nonce)
      if (answer?.failure === null) return answer
      if (answer !== undefined) {
        throw runnerFailure(answer.failure ?? '', answer.blobs.get('detail')?.toString() ?? '', { provider: provider.name, verb, token: access?.token })
      }
      if (!stdout.includes(missing) || installed) {
        throw new InfrastructureError({ kind: 'transient', source: provider.name, message: `${provider.name}: the answer to ${verb} was cut` })
      }
      // The job may have removed it; nothing in the sandbox is beyond its reach.
      await put(scriptPath, runnerScript, call)
    }
  }

  /** Every verb bears being repeated, so an unknown outcome is asked for again. */
  async function run(what: Call, call: RunnerCallOptions): Promise<Answer> {
    for (let tries = 0; ; tries++) {
      try {
        return await once(what, call)
      } catch (error) {
        const pauseMs = pausesMs[tries]
        if (!(error instanceof InfrastructureError) || error.kind !== 'transient' || pauseMs === undefined) throw error
        await sleep(pauseMs, undefined, { signal: call.signal })
      }
    }
  }

  return {
    async install(call): Promise<SandboxFacts> {
      const answer = await run({ verb: 'probe', args: [] }, call)
      const image = options.image ?? `the default image of ${provider.name}`
      const gitVersion = textField(answer, 'git')
      const absent = [...(gitVersion === 'missing' ? ['git'] : []), ...(answer.fields.get('missing') ?? [])]
      if (absent.length > 0) {
        throw new InfrastructureError({ kind: 'invalid', source: provider.name, message: `image: ${image} has no ${absent.join(', ')}; use an image that has, or install it there` })
      }
      const home = Buffer.from(textField(answer, 'home'), 'base64').toString()
      return { repositoryPath: `${home}/repository`, gitVersion: gitVersion.replace(/^git version /, ''), user: textField(answer, 'user') }
    },

    async clone({ access, sha, branch, ref, checkpoint }, call) {
      await run({ verb: 'clone', args: [access.url, sha, branch, ref ?? '-', checkpoint?.headSha ?? '-', String(checkpoint?.commitsAhead ?? 0)], access }, call)
    },

    async start({ key, run: text, cwd, env }, call) {
      const encoded = b64(text)
      const inline = encoded.length < Math.min(provider.capabilities.maxCommandBytes, 96 * 1024) / 2
      if (!inline) await put(`"$HOME"/.switchyard/${key}.run`, text, call)
      const prefixed = Object.fromEntries(Object.entries(env).map(([name, value]) => [`SWITCHYARD_ENV_${name}`, value]))
      await run({ verb: 'start', args: [key, cwd ?? '', inline ? encoded : '-', ...Object.keys(env)], env: prefixed }, call)
    },

    async read(key, { stdoutOffset, stderrOffset, waitMs, maxBytes }, call): Promise<OutputSlice> {
      const answer = await run({ verb: 'read', args: [key, ...[stdoutOffset, stderrOffset, waitMs, maxBytes].map((number) => String(Math.floor(number)))] }, call)
      const slice = (name: string): Uint8Array => {
        const length = numberField(answer, `${name}-length`)
        if (length === 0) return new Uint8Array()
        const skip = numberField(answer, `${name}-skip`)
        return (answer.blobs.get(name) ?? Buffer.alloc(0)).subarray(skip, skip + length)
      }
      const code = textField(answer, 'code')
      return {
        stdout: slice('out'),
        stderr: slice('err'),
        stdoutSize: numberField(answer, 'out-size'),
        stderrSize: numberField(answer, 'err-size'),
        exitCode: code === '-' ? null : Number(code),
      }
    },

    async stop(key, graceMs, call) {
      await run({ verb: 'stop', args: [key, String(graceMs)] }, call)
    },

    async checkpoint({ parent, baseSha, branch, message, identity, access }, call) {
      const answer = await run({ verb: 'checkpoint', args: [access.url, branch, parent, baseSha, b64(identity.name), b64(identity.email), b64(message)], access }, call)
      if (answer.fields.has('none')) return null
      return { sha: textField(answer, 'sha'), headSha: textField(answer, 'head'), commitsAhead: numberField(answer, 'ahead') }
    },

    async commit({ message, author, committer, dateSeconds }, call) {
      const answer = await run(
        { verb: 'commit', args: [b64(author.name), b64(author.email), b64(committer.name), b64(committer.email), String(dateSeconds), b64(message)] },
        call,
      )
      return { sha: textField(answer, 'sha'), headSha: textField(answer, 'head') }
    },

    async push({ sha, branch, access }, call) {
      await run({ verb: 'push', args: [access.url, branch, sha], access }, call)
    },
  }
}
