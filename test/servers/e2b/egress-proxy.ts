/**
 * What E2B's network rules do, as far as a proxy can: a sandbox with rules gets `http_proxy` and `https_proxy`, and what
 * honours them (git, curl) is let out only to allowed hosts and has the rules' headers added. E2B does so for all
 * traffic and unseen; here plain HTTP shows the added headers, and TLS is let through or refused, but not opened.
 */
import { createServer, request as forward, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { BlockList, connect, isIP, type AddressInfo, type Socket } from 'node:net'
import type { components } from 'e2b'

type Network = components['schemas']['SandboxNetworkConfig'] & {
  /** Names are let through by TLS on port 443 and by nothing else, as Modal does; addresses on every port. */
  readonly namesByTlsOnly?: boolean
  /** What stands in a sandbox for a secret, and goes out as its value to its hosts, as Daytona has it. */
  readonly standIns?: readonly { readonly standIn: string; readonly value: string; readonly hosts: readonly string[] }[]
}

const allTraffic = '0.0.0.0/0'

/** The headers to add for a host: those of its own rule, else of the longest wildcard that fits. */
function headersFor(network: Network, host: string): Record<string, string> {
  const fitting = Object.keys(network.rules ?? {})
    .filter((pattern) => matches(pattern, host))
    .sort((left, right) => Number(left.startsWith('*')) - Number(right.startsWith('*')) || right.length - left.length)
  const rules = network.rules?.[fitting[0] ?? ''] ?? []
  return Object.assign({}, ...rules.map((rule) => rule.transform?.headers ?? {})) as Record<string, string>
}

/** Allowed entries win over denied ones; what nothing denies is allowed. */
function isAllowed(network: Network, host: string, tlsPort?: string): boolean {
  if (network.namesByTlsOnly === true && network.denyOut !== undefined && isIP(host) === 0 && tlsPort !== '443') return false
  return (network.allowOut ?? []).some((target) => matches(target, host)) || !(network.denyOut ?? []).some((target) => target === allTraffic || matches(target, host))
}

function matches(pattern: string, host: string): boolean {
  const [address = '', bits] = pattern.split('/')
  if (isIP(address) !== 0 && isIP(host) !== 0) {
    const list = new BlockList()
    list.addSubnet(address, bits === undefined ? 32 : Number(bits), 'ipv4')
    return list.check(host)
  }
  return pattern.startsWith('*.') ? host.endsWith(pattern.slice(1)) : pattern.toLowerCase() === host.toLowerCase()
}

export class EgressProxy {
  private readonly server: Server
  private readonly sockets = new Set<Socket>()

  /**
   * @param networkOf a live sandbox's rules.
   * @param here a name that stands for this machine, for programs that take no proxy to a loopback address.
   */
  constructor(
    private readonly networkOf: (sandboxId: string) => Network | undefined,
    private readonly here?: string,
  ) {
    this.server = createServer((request, response) => this.forward(request, response))
    this.server.on('connect', (request: IncomingMessage, socket: Socket) => this.tunnel(request, socket))
    this.server.on('connection', (socket) => this.track(socket))
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve))
  }

  /** The environment that leads a sandbox's traffic here; empty for one without rules. */
  environment(sandboxId: string): Record<string, string> {
    const { rules, denyOut, standIns } = this.networkOf(sandboxId) ?? {}
    if (rules === undefined && denyOut === undefined && standIns === undefined) return {}
    // A password, although nobody checks it: git would ask for one.
    const url = `http://${sandboxId}:sandbox@127.0.0.1:${(this.server.address() as AddressInfo).port}`
    return { http_proxy: url, https_proxy: url }
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.server.close(resolve))
    for (const socket of this.sockets) socket.destroy()
    await closed
  }

  private network(request: IncomingMessage): Network | undefined {
    const user = Buffer.from(request.headers['proxy-authorization']?.replace(/^Basic /i, '') ?? '', 'base64').toString()
    return this.networkOf(user.split(':')[0] ?? '')
  }

  private forward(request: IncomingMessage, response: ServerResponse): void {
    const network = this.network(request)
    const target = URL.canParse(request.url ?? '') ? new URL(request.url ?? '') : undefined
    if (network === undefined || target === undefined) {
      response.writeHead(407, { 'proxy-authenticate': 'Basic' }).end()
      return
    }
    if (!isAllowed(network, target.hostname)) {
      response.writeHead(403).end('not an allowed host')
      return
    }
    const headers: IncomingMessage['headers'] = { ...request.headers }
    delete headers['proxy-authorization']
    delete headers['proxy-connection']
    for (const [name, value] of Object.entries(headersFor(network, target.hostname))) headers[name.toLowerCase()] = value
    for (const { standIn, value, hosts } of network.standIns ?? []) {
      if (!hosts.some((host) => matches(host, target.hostname))) continue
      for (const [name, held] of Object.entries(headers)) if (typeof held === 'string') headers[name] = held.replaceAll(standIn, value)
    }
    const address = target.hostname === this.here ? { hostname: '127.0.0.1' } : {}
    const onward = forward(target, { ...address, method: request.method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    })
    onward.on('error', () => response.destroy())
    request.pipe(onward)
  }

  private tunnel(request: IncomingMessage, socket: Socket): void {
    const network = this.network(request)
    const [host = '', port = '443'] = (request.url ?? '').split(':')
    if (network === undefined || !isAllowed(network, host, port)) {
      socket.end(network === undefined ? 'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n' : 'HTTP/1.1 403 Forbidden\r\n\r\n')
      return
    }
    const onward = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      socket.pipe(onward).pipe(socket)
    })
    this.track(onward)
    for (const end of [socket, onward]) end.on('error', () => [socket, onward].forEach((one) => one.destroy()))
  }

  private track(socket: Socket): void {
    this.sockets.add(socket)
    socket.once('close', () => this.sockets.delete(socket))
  }
}
