import { connect } from 'node:net'
import { once } from 'node:events'

/**
 * What a Redis is asked, as its MONITOR tells: when by its clock in ms, the client's address ("lua" within scripts), and the command with its arguments. By a bare socket, since ioredis' own monitor
 * breaks when a command of somebody else's comes before its answer.
 */
export async function monitorRedis(url: string, onCommand: (atMs: number, client: string, args: readonly string[]) => void): Promise<{ close(): void }> {
  const { hostname, port, password } = new URL(url)
  const socket = connect(Number(port), hostname)
  await once(socket, 'connect')
  const commands = [...(password === '' ? [] : [['AUTH', decodeURIComponent(password)]]), ['MONITOR']]
  let answers = commands.length
  let began: () => void = () => undefined
  const ready = new Promise<void>((resolve) => (began = resolve))
  let rest = ''
  socket.setEncoding('utf8').on('data', (piece: string) => {
    const lines = (rest + piece).split('\r\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      const told = /^\+(\d+\.\d+) \[\d+ ([^\]]*)\] (.*)$/s.exec(line)
      if (told !== null) onCommand(Number(told[1]) * 1_000, told[2] ?? '', [...(told[3] ?? '').matchAll(/"((?:[^"\\]|\\.)*)"/gs)].map(([, text = '']) => text.replaceAll(/\\(["\\])/g, '$1')))
      else if (!line.startsWith('+')) socket.destroy(new Error(`redis: ${line}`))
      else if (--answers === 0) began()
    }
  })
  socket.write(commands.map((args) => `*${args.length}\r\n${args.map((text) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`).join('')}`).join(''))
  await Promise.race([ready, once(socket, 'close').then(() => Promise.reject(new Error('redis ended the connection')))])
  return { close: () => void socket.destroy() }
}
