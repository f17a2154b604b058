import type { Command } from 'commander'
import type { Config } from '../../config/schema.js'
import { InvalidInputError } from '../../job/errors.js'
import { print, printJson } from '../print.js'
import { configOf, withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'
import { aborted, listenForStop } from '../stop-signal.js'

type Flags = SharedFlags & { readonly host?: string; readonly port?: string; readonly mcp?: boolean }

/** `switchyard serve`: the HTTP API, until it is stopped. */
export function addServeCommand(program: Command): void {
  const command = program
    .command('serve')
    .description('serve the HTTP API, for producers in any language')
    .option('--host <address>', 'the address to listen on (default: http.host, 127.0.0.1)')
    .option('--port <number>', 'the port; 0 for any that is free (default: http.port, 8080)')
    .option('--mcp', 'serve the Model Context Protocol too, at /mcp (default: http.mcp)')
  withConfigOption(withJsonOption(command, 'the address'))
  command
    .addHelpText(
      'after',
      `
Every request bears a key of "switchyard keys create"; GET /openapi.json says what there is. It speaks plain HTTP: put it behind something
that speaks TLS. GET /healthz answers 200 while the process does, GET /readyz while Redis does too and nobody stops it. SIGTERM ends
streams, and waits up to 10 seconds for requests under way.

Example:
  switchyard serve --host 0.0.0.0 --port 8080`,
    )
    .action(async (flags: Flags) => {
      const { config } = await configOf(flags)
      const { openApi } = await import('../open-api.js')
      const { url, close } = await openApi(withFlags(config, flags))
      using stop = listenForStop()
      if (flags.json === true) printJson({ url })
      else print(`HTTP API: ${url} (its document: ${url}openapi.json)`)
      await aborted(stop.signal)
      await close()
    })
}

function withFlags(config: Config, flags: Flags): Config {
  const port = flags.port === undefined ? config.http.port : Number(flags.port)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new InvalidInputError(`--port: "${flags.port ?? ''}" must be a whole number from 0 to 65535`)
  return { ...config, http: { ...config.http, host: flags.host ?? config.http.host, port, mcp: flags.mcp ?? config.http.mcp } }
}
