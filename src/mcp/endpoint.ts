import type { McpEndpoint } from '../http/index.js'
import { ApiCalls } from './api-calls.js'
import type { McpSdk } from './sdk.js'
import { createMcpServer } from './server.js'

/**
 * Answers `POST /mcp` of the HTTP API as the Model Context Protocol's "Streamable HTTP" says, without sessions: each request is answered by a server of its
 * own, whose calls bear the key that the request bears. So a key may here what it may there.
 */
export function mcpEndpoint(sdk: McpSdk, onError: (error: unknown) => void): McpEndpoint {
  return async (request, { answer, maxBodyBytes, stop, onEnd }) => {
    const headers = Object.fromEntries([...request.headers].filter(([name]) => !ownHeaders.test(name)))
    const mcp = createMcpServer({ sdk, api: new ApiCalls({ answer, baseUrl: new URL('/', request.url).href, headers }), onError })
    const transport = new sdk.WebStandardStreamableHTTPServerTransport({ maxRequestBodySize: maxBodyBytes })
    let over = false
    const end = () => {
      if (over) return
      over = true
      stop.removeEventListener('abort', end)
      request.signal.removeEventListener('abort', end)
      onEnd()
      void mcp.close().catch(onError)
    }
    stop.addEventListener('abort', end)
    request.signal.addEventListener('abort', end)
    try {
      await mcp.connect(transport)
      const response = await transport.handleRequest(request)
      if (response.body === null) {
        end()
        return response
      }
      return new Response(followed(response.body, end), response)
    } catch (error) {
      end()
      throw error
    }
  }
}

/** What belongs to this request alone, and not to the calls that come of it. */
const ownHeaders = /^(accept.*|connection|content-.*|expect|host|idempotency-key|keep-alive|last-event-id|mcp-.*|origin|te|trailer|transfer-encoding|upgrade)$/

/** @param onEnd called when all was read, or nobody reads any more. */
function followed(body: ReadableStream<Uint8Array>, onEnd: () => void): ReadableStream<Uint8Array> {
  const reader = body.getReader()
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await reader.read().catch(() => ({ done: true as const, value: undefined }))
      if (!done) {
        controller.enqueue(value)
        return
      }
      controller.close()
      onEnd()
    },
    async cancel(reason) {
      onEnd()
      await reader.cancel(reason)
    },
  }, { highWaterMark: 0 })
}
