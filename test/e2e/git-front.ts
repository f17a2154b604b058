import { createServer, request as forward, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface GitFront {
  readonly url: string
  /** Called with each request before it goes on; it goes on when the promise resolves. */
  before: (request: IncomingMessage) => Promise<void>
  close(): Promise<void>
}

/** Stands before a git host and shows each request to a test. Every body is passed on as it comes. */
export async function startGitFront(target: string): Promise<GitFront> {
  const server = createServer((request, response) => {
    const pass = async () => {
      await front.before(request)
      const { expect: _expect, ...headers } = request.headers
      const onward = forward(new URL(request.url ?? '/', target), { method: request.method, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(response)
      })
      onward.on('error', () => response.destroy())
      request.pipe(onward)
    }
    pass().catch(() => response.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const front: GitFront = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    before: () => Promise.resolve(),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
  return front
}
