// A webhook's receiver for benchmarks: answers 204, and 500 to one request in FAILS (0: none). Tells its port, then once a second how many of each.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

const fails = Number(process.argv[2] ?? 10)
let [taken, refused] = [0, 0]
const server = createServer((request, response) => {
  request.resume()
  request.on('end', () => {
    const failing = fails > 0 && (taken + refused) % fails === fails - 1
    if (failing) refused += 1
    else taken += 1
    response.writeHead(failing ? 500 : 204).end()
  })
})
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }))
setInterval(() => process.send?.({ taken, refused }), 50).unref()
process.on('disconnect', () => process.exit())
