/** The daemon in a sandbox, as its proxy shows it: `POST /toolbox/{id}/process/execute`. */
import { z } from 'zod'
import type { HostedProcess, SandboxHost } from '../sandbox-host.js'
import type { Fault } from '../shared-faults.js'
import type { SandboxRecord } from './records.js'

export const executeBody = z.object({
  command: z.string(),
  cwd: z.string().optional(),
  envs: z.record(z.string(), z.string()).optional(),
  timeout: z.number().optional(),
})

/**
 * How the daemon takes a command apart: older ones split it and know quotes but no backslash, newer ones give it to a shell. `zsh` is
 * one whose shell reads a start-up file first, as zsh does wherever an image has it.
 */
export type DaemonKind = 'shell' | 'splitter' | 'zsh'

const startUpFile = 'startup="${ZDOTDIR:-$HOME}/.zshenv"; if [ -f "$startup" ]; then . "$startup"; fi'

const defaultTimeoutSeconds = 360

/**
 * Both outputs come back mixed, as text. A command that a signal ended and one that could not be started both have the
 * exit code -1; after the timeout its process group is killed, and its output is lost.
 */
export async function execute(
  host: SandboxHost<SandboxRecord>,
  sandboxId: string,
  body: z.output<typeof executeBody>,
  daemon: DaemonKind,
  fault: Fault | undefined,
): Promise<Response> {
  const words = daemon === 'splitter' ? splitCommand(body.command) : ['/bin/sh', '-c', daemon === 'zsh' ? `${startUpFile}\n${body.command}` : body.command]
  const [file, ...args] = words
  if (file === undefined) return daemonError(400, 'empty command', 'BAD_REQUEST')
  let process: HostedProcess
  try {
    // In a place with walls what stands before the command is started in any case.
    if (body.cwd !== undefined && !(await isFolder(host, sandboxId, body.cwd))) return Response.json({ exitCode: -1, result: '' })
    process = await host.exec(sandboxId, { file, args, env: body.envs ?? {}, cwd: body.cwd })
  } catch {
    if (host.get(sandboxId) === undefined) return proxyError(502, 'runner is unreachable: connection refused', 'RUNNER_UNREACHABLE')
    return Response.json({ exitCode: -1, result: '' })
  }
  const chunks: Buffer[] = []
  process.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  process.stderr.on('data', (chunk: Buffer) => chunks.push(chunk))
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => resolve('late'), ((body.timeout ?? 0) > 0 ? (body.timeout ?? 0) : defaultTimeoutSeconds) * 1000)
    timer.unref()
  })
  try {
    const ended = await Promise.race([process.ended, late])
    if (ended === 'late') {
      process.kill('SIGKILL', true)
      return daemonError(408, 'command execution timeout', 'PROCESS_EXECUTION_TIMEOUT')
    }
    // The machine went away below the command.
    if (host.get(sandboxId) === undefined) return proxyError(502, 'runner is unreachable: EOF', 'RUNNER_UNREACHABLE')
    if (fault?.action === 'corrupt') return corrupted(fault.variant)
    return Response.json({ exitCode: ended.exitCode ?? -1, result: Buffer.concat(chunks).toString('utf8') })
  } finally {
    clearTimeout(timer)
  }
}

async function isFolder(host: SandboxHost<SandboxRecord>, sandboxId: string, path: string): Promise<boolean> {
  const look = await host.exec(sandboxId, { file: '/bin/sh', args: ['-c', '[ -d "$1" ] && [ -x "$1" ]', 'sh', path] })
  look.stdout.resume()
  look.stderr.resume()
  return (await look.ended).exitCode === 0
}

/** Answers of a proxy that is not itself: `html` (a page with status 200), `no-exit-code`. */
function corrupted(variant: string): Response {
  if (variant === 'no-exit-code') return Response.json({ result: '' })
  return new Response('<html>gateway</html>', { headers: { 'content-type': 'text/html' } })
}

export function proxyError(statusCode: number, message: string, code: string): Response {
  return Response.json({ statusCode, message, code, source: 'DAYTONA_PROXY', timestamp: new Date().toISOString() }, { status: statusCode })
}

function daemonError(statusCode: number, message: string, code: string): Response {
  return Response.json({ statusCode, message, code, source: 'DAYTONA_DAEMON', timestamp: new Date().toISOString() }, { status: statusCode })
}

function splitCommand(text: string): string[] {
  const words: string[] = []
  let word: string | undefined
  let quote: string | undefined
  for (const character of text) {
    if (quote !== undefined) {
      if (character === quote) quote = undefined
      else word = (word ?? '') + character
    } else if (character === '"' || character === '\'') {
      quote = character
      word ??= ''
    } else if (character === ' ') {
      if (word !== undefined) words.push(word)
      word = undefined
    } else {
      word = (word ?? '') + character
    }
  }
  if (word !== undefined) words.push(word)
  return words
}
