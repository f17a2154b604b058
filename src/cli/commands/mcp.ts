import type { Command } from 'commander'
import { InvalidInputError } from '../../job/errors.js'
import type { McpFlags } from '../run-mcp.js'
import { collect, withConfigOption } from '../shared-options.js'

/** `switchyard mcp`: the tools of an agent that enqueues, watches and cancels jobs. */
export function addMcpCommand(program: Command): void {
  const command = program
    .command('mcp')
    .description('serve the Model Context Protocol on stdin and stdout: an agent enqueues, watches and cancels jobs')
    .option('--read-only', 'only the tools that look')
    .option('--tenant <name>', 'whose jobs there are; may be given several times (default: everybody’s)', collect)
    .option('--repository <id>', 'what jobs may run on, such as acme/web, or acme/* for all that begin so; may be given several times (default: all)', collect)
    .option('--secret <NAME>', 'which secrets jobs may use; may be given several times (default: all)', collect)
    .option('--no-secrets', 'jobs may use none')
    .option('--url <url>', 'speak to a "switchyard serve" there, in place of the Redis of the configuration')
    .option('--key-env <NAME>', 'the variable that holds the key for it', 'SWITCHYARD_API_KEY')
  withConfigOption(command)
  command
    .addHelpText(
      'after',
      `
An agent's host starts it; it ends when its stdin does. It needs the package @modelcontextprotocol/sdk. With --url the key decides what
the agent may do (switchyard keys create --scope read --tenant acme). "switchyard serve --mcp" serves the same by HTTP.

Examples:
  switchyard mcp --read-only
  switchyard mcp --tenant acme --repository 'acme/*' --no-secrets
  switchyard mcp --url https://switchyard.example.com`,
    )
    .action(async (flags: McpFlags) => {
      const limit = flags.tenant !== undefined ? 'tenant' : flags.repository !== undefined ? 'repository' : flags.secret !== undefined ? 'secret' : flags.secrets ? undefined : 'no-secrets'
      if (flags.url !== undefined && limit !== undefined) throw new InvalidInputError(`--${limit}: the key decides with --url; make one with this limit (switchyard keys create --${limit})`)
      if (!flags.secrets && flags.secret !== undefined) throw new InvalidInputError('--secret: is given together with --no-secrets; give one of the two')
      const { runMcp } = await import('../run-mcp.js')
      await runMcp(flags)
    })
}
