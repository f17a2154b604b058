export { ApiCalls, type AnswerRequest } from './api-calls.js'
export { mcpEndpoint } from './endpoint.js'
export { loadMcpSdk, type McpSdk } from './sdk.js'
export { createMcpServer, type McpServerOptions } from './server.js'
