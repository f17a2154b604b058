/**
 * A protocol server as a program of its own: it says where it listens in lines of `NAME=value`, the variables that its
 * provider's SDK reads among them and `ADMIN_URL` last, and runs until SIGINT or SIGTERM. With `--with-stdin` it also ends
 * when its standard input does, as it does when whoever started it is gone. Lines before these that begin
 * with "#" say what walls its sandboxes lack on this machine.
 */
import { Command, InvalidArgumentError } from 'commander'

/** Names in camel case, as options are read; a number for one that must be a whole number. */
type Defaults = Readonly<Record<string, { readonly value: number | string; readonly help: string }>>
type Values<Options extends Defaults> = { readonly [Name in keyof Options]: Options[Name]['value'] }

export interface Standalone {
  /** Without ADMIN_URL. */
  readonly variables: Readonly<Record<string, string>>
  /** What walls its sandboxes lack on this machine; none when left out. */
  readonly remarks?: readonly string[]
  /** Where `/admin/state` and the rest of ../shared-faults.ts are. */
  readonly adminUrl: string
  close(): Promise<void>
}

export async function runStandalone<const Options extends Defaults>(provider: string, options: Options, start: (values: Values<Options>) => Promise<Standalone>): Promise<void> {
  const command = new Command()
    .description(`A server that speaks ${provider}’s wire protocol and really runs the commands on this machine. Not ${provider}.`)
    .option('--with-stdin', 'end when the standard input ends')
  for (const [name, { value, help }] of Object.entries(options)) {
    const flag = `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
    if (typeof value === 'number') command.option(`${flag} <number>`, help, whole, value)
    else command.option(`${flag} <text>`, help, value)
  }
  const { withStdin, ...values } = command.parse().opts<Values<Options> & { readonly withStdin?: boolean }>()
  const server = await start(values as unknown as Values<Options>)
  let closing: Promise<void> | undefined
  const close = () => void (closing ??= server.close())
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, close)
  if (withStdin === true) process.stdin.once('end', close).once('error', close).resume()
  for (const remark of server.remarks ?? []) process.stdout.write(`# ${remark}\n`)
  process.stdout.write(Object.entries({ ...server.variables, ADMIN_URL: server.adminUrl }).map(([name, value]) => `${name}=${value}\n`).join(''))
}

function whole(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('give a whole number')
  return Number(text)
}
