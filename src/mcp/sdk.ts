import type * as Mcp from '@modelcontextprotocol/sdk/server/mcp.js'
import type * as StreamableHttp from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js'
import type * as Stdio from '@modelcontextprotocol/sdk/server/stdio.js'
import type * as Types from '@modelcontextprotocol/sdk/types.js'
import { loadOptionalPackage } from '../providers/optional-package.js'

/** The parts of the SDK that a server needs. Only types are imported here: the package is optional. */
export type McpSdk = Pick<typeof Mcp, 'McpServer'> & Pick<typeof Stdio, 'StdioServerTransport'> & Pick<typeof StreamableHttp, 'WebStandardStreamableHTTPServerTransport'> & Pick<typeof Types, 'ListToolsRequestSchema' | 'CallToolRequestSchema' | 'McpError' | 'ErrorCode'>

/**
 * Loads `@modelcontextprotocol/sdk`.
 * @throws InfrastructureError `invalid` when it is not installed or does not load.
 */
export async function loadMcpSdk(load: () => Promise<McpSdk> = importSdk): Promise<McpSdk> {
  return await loadOptionalPackage('mcp', '@modelcontextprotocol/sdk', '1.32.2', load, 'use the HTTP API')
}

async function importSdk(): Promise<McpSdk> {
  const [{ McpServer }, { StdioServerTransport }, { WebStandardStreamableHTTPServerTransport }, { ListToolsRequestSchema, CallToolRequestSchema, McpError, ErrorCode }] = await Promise.all([
    import('@modelcontextprotocol/sdk/server/mcp.js'),
    import('@modelcontextprotocol/sdk/server/stdio.js'),
    import('@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js'),
    import('@modelcontextprotocol/sdk/types.js'),
  ])
  return { McpServer, StdioServerTransport, WebStandardStreamableHTTPServerTransport, ListToolsRequestSchema, CallToolRequestSchema, McpError, ErrorCode }
}
