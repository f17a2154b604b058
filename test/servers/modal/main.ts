/** Runs the server alone: `npm run server:modal -- --port 8810 --admin-port 8811`. */
import { Command, InvalidArgumentError } from 'commander'
import { startModalServer } from './server.js'

const whole = (text: string): number => {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('give a whole number')
  return Number(text)
}

const { port, adminPort, maxSandboxes, createsPerSecond } = new Command('server:modal')
  .description('A server that speaks Modal’s wire protocol and really runs the commands, for tests. Not Modal.')
  .option('--port <number>', 'where the SDK connects; 0 for any free port', whole, 0)
  .option('--admin-port <number>', 'the admin endpoint for faults and counters', whole, 0)
  .option('--max-sandboxes <number>', 'how many may run at once', whole, 100)
  .option('--creates-per-second <number>', 'how many may be created in a second', whole, 1000)
  .parse()
  .opts<{ port: number; adminPort: number; maxSandboxes: number; createsPerSecond: number }>()

const server = await startModalServer({ port, adminPort, maxSandboxes, createsPerSecond })
console.log(`MODAL_SERVER_URL=${server.url}`)
console.log(`MODAL_TOKEN_ID=${server.tokenId}`)
console.log(`MODAL_TOKEN_SECRET=${server.tokenSecret}`)
console.log(`admin: ${server.adminUrl}/admin/state`)

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void server.close())
}
