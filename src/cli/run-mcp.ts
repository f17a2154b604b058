import { Writable } from 'node:stream'
import { createApi, type Caller } from '../http/index.js'
import { repositoryPatterns, secretNames } from '../http/run-limits.js'
import { errorMessage, InvalidInputError } from '../job/errors.js'
import { parseInput } from '../job/explain.js'
import { ApiCalls, createMcpServer, loadMcpSdk } from '../mcp/index.js'
import { createLogger } from './logger.js'
import { storeOf } from './open-api.js'
import { openQueue } from './open-queue.js'
import { say } from './print.js'
import { configOf, type SharedFlags } from './shared-options.js'
import { listenForStop } from './stop-signal.js'

export interface McpFlags extends SharedFlags {
  readonly url?: string
  readonly keyEnv: string
  readonly readOnly?: boolean
  readonly tenant?: string[]
  readonly repository?: string[]
  readonly secret?: string[]
  /** False for --no-secrets. */
  readonly secrets: boolean
}

interface OpenedCalls {
  readonly api: ApiCalls
  readonly close: () => Promise<void>
}

/** A job as large as it may be, and what is around it. */
const longestMessageBytes = 128 * 1024 * 1024

/**
 * Serves the Model Context Protocol on stdin and stdout until stdin ends, a message is too large, or a signal comes.
 * @throws InvalidInputError, RedisUnavailableError, InfrastructureError when the SDK is not installed.
 */
export async function runMcp(flags: McpFlags): Promise<void> {
  // Before anything is loaded that might print, such as the user's own configuration.
  const output = takeStdout()
  const sdk = await loadMcpSdk()
  const { api, close } = flags.url === undefined ? await callsOfQueue(flags) : callsOfServer(flags.url, flags.keyEnv)
  try {
    using stop = listenForStop()
    const mcp = createMcpServer({ sdk, api, readOnly: flags.readOnly, onError: (error) => say(`switchyard: mcp: ${errorMessage(error)}`) })
    const transport = new sdk.StdioServerTransport(process.stdin, output, { maxBufferSize: longestMessageBytes })
    const over = new Promise<void>((resolve) => {
      mcp.server.onclose = resolve
      for (const event of ['end', 'close', 'error'] as const) process.stdin.once(event, () => resolve())
      if (stop.signal.aborted) resolve()
      else stop.signal.addEventListener('abort', () => resolve(), { once: true })
    })
    await mcp.connect(transport)
    await over
    await mcp.close()
    process.stdin.pause()
    // Else it would keep the process.
    if ('unref' in process.stdin) process.stdin.unref()
  } finally {
    await close()
  }
}

/** Whatever else is printed goes to stderr from now on: stdout bears the protocol and nothing besides. */
function takeStdout(): Writable {
  const { stdout } = process
  const write: typeof stdout.write = stdout.write.bind(stdout)
  stdout.write = process.stderr.write.bind(process.stderr)
  return new Writable({
    decodeStrings: false,
    write: (chunk: string, _encoding, done) => void write(chunk, (error) => done(error)),
  })
}

/** The API of this process, over the Redis of the configuration. */
async function callsOfQueue(flags: McpFlags): Promise<OpenedCalls> {
  const { config } = await configOf(flags)
  const queue = openQueue(config)
  try {
    // Whoever starts it wants to hear of a Redis that is not there.
    await queue.statuses([])
    const artifacts = storeOf(config)
    const caller: Caller = { id: 'mcp', name: 'switchyard mcp', scope: flags.readOnly === true ? 'read' : 'write', tenants: flags.tenant ?? null, ...limitsOf(flags) }
    const served = createApi({ queue, artifacts, maxBodyBytes: config.http.maxBodyBytes, rateLimit: 'none', authenticate: () => caller, log: createLogger(config.logs.level) })
    return {
      api: new ApiCalls({ answer: served.fetch, baseUrl: 'http://mcp.invalid/' }),
      close: async () => {
        served.stop()
        artifacts?.close()
        await queue.close()
      },
    }
  } catch (error) {
    await queue.close()
    throw error
  }
}

/** @throws InvalidInputError. */
function limitsOf({ repository, secret, secrets }: McpFlags): Pick<Caller, 'repositories' | 'secrets'> {
  return {
    ...(repository === undefined ? {} : { repositories: parseInput(repositoryPatterns, repository, '--repository') }),
    ...(secrets ? (secret === undefined ? {} : { secrets: parseInput(secretNames, secret, '--secret') }) : { secrets: [] }),
  }
}

/** The API of a server, with the key of the environment. */
function callsOfServer(text: string, keyEnv: string): OpenedCalls {
  const url = URL.canParse(text) ? new URL(text) : undefined
  // It may hold a password: it is not repeated.
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw new InvalidInputError('--url: must be the URL of a "switchyard serve" such as https://switchyard.example.com, without a name, a password or a query')
  }
  const key = process.env[keyEnv]?.trim() ?? ''
  if (key === '') throw new InvalidInputError(`${keyEnv}: is not set; put a key of "switchyard keys create" into it, or name another variable by --key-env`)
  if (!/^[\x21-\x7e]+$/.test(key)) throw new InvalidInputError(`${keyEnv}: holds what no key has; put a key of "switchyard keys create" into it`)
  if (!url.pathname.endsWith('/')) url.pathname += '/'
  return { api: new ApiCalls({ answer: (request) => fetch(request), baseUrl: url.href, headers: { authorization: `Bearer ${key}` } }), close: async () => undefined }
}
