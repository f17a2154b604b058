/** Runs the model alone: `npm run server:model -- --port 8400`; `--help` tells the rest. */
import { runStandalone } from '../standalone.js'
import { startModelServer } from './server.js'

const options = {
  port: { value: 0, help: 'where it listens; 0 for any free port' },
  thinkMs: { value: 0, help: 'how long it thinks before each answer, in milliseconds' },
  apiKey: { value: 'sk-local-model', help: 'the key that is let in' },
}

await runStandalone('a model', options, async ({ port, thinkMs, apiKey }) => {
  const server = await startModelServer({ port, thinkMs, apiKey })
  return {
    variables: { ANTHROPIC_BASE_URL: server.url, OPENAI_BASE_URL: `${server.url}/v1`, GOOGLE_GEMINI_BASE_URL: server.url, MODEL_API_KEY: server.apiKey },
    adminUrl: `${server.url}/admin`,
    close: () => server.close(),
  }
})
