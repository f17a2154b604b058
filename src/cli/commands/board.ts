import type { Command } from 'commander'
import type { Config } from '../../config/schema.js'
import { configOf, withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'
import { print, printJson } from '../print.js'
import { aborted, listenForStop } from '../stop-signal.js'
import { InvalidInputError } from '../../job/errors.js'

type Flags = SharedFlags & { readonly host?: string; readonly port?: string; readonly writable?: boolean; readonly auth?: boolean }

/** `switchyard board`: Bull Board over the queue, until it is stopped. */
export function addBoardCommand(program: Command): void {
  const command = program
    .command('board')
    .description('serve Bull Board, read-only unless told otherwise')
    .option('--host <address>', 'the address to listen on (default: board.host, 127.0.0.1)')
    .option('--port <number>', 'the port; 0 for any that is free (default: board.port, 8090)')
    .option('--no-auth', 'ask nobody for a password: whatever runs on this machine may look, jobs in local sandboxes too')
    .option('--writable', 'let jobs be retried, promoted and removed from the board')
  withConfigOption(withJsonOption(command, 'the address'))
  command
    .addHelpText(
      'after',
      `
The board asks for a user name (board.username, "admin") and the password in SWITCHYARD_BOARD_PASSWORD. Without one it makes a password
of its own and prints a link that logs in; on another address than this machine's own it does not start. It speaks plain HTTP: put it behind something that speaks TLS.
GET /healthz answers 200 while Redis does.

Example:
  SWITCHYARD_BOARD_PASSWORD=… switchyard board --host 0.0.0.0`,
    )
    .action(async (flags: Flags) => {
      const { config } = await configOf(flags)
      const { openBoard } = await import('../open-board.js')
      const { board, close } = await openBoard(withFlags(config, flags), process.env, { auth: flags.auth })
      using stop = listenForStop()
      if (flags.json === true) printJson({ url: board.url, loginUrl: board.loginUrl })
      else print(`Bull Board: ${board.loginUrl}`)
      await aborted(stop.signal)
      await close()
    })
}

function withFlags(config: Config, flags: Flags): Config {
  const port = flags.port === undefined ? config.board.port : Number(flags.port)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new InvalidInputError(`--port: "${flags.port ?? ''}" must be a whole number from 0 to 65535`)
  return { ...config, board: { ...config.board, host: flags.host ?? config.board.host, port, writable: flags.writable ?? config.board.writable } }
}
