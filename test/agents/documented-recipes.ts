import { parseJobSpec, type JobSpecInput } from '../../src/job/spec.js'
import type { RealAgent } from '../../src/cli/demo/real-agents.js'
import type { ModelServer } from '../servers/model/server.js'
import { fencedBlocks } from '../docs/fenced-blocks.js'
import type { Recipe } from './interrupted-agent.js'

/** The job of docs/agents.md whose step has the agent's name: what is run is what the document says. */
export function documentedJob(name: string): JobSpecInput {
  for (const { language, tag, text } of fencedBlocks('docs/agents.md')) {
    if (language !== 'json' || tag !== 'job') continue
    const job = JSON.parse(text) as JobSpecInput
    if (parseJobSpec(job).steps.some((step) => step.name === name)) return job
  }
  throw new Error(`docs/agents.md has no job with a step "${name}"`)
}

/** The same as a recipe. */
export function documentedRecipe(name: string, model: ModelServer): Recipe {
  const { setup, steps, checkpoint, env, secrets } = parseJobSpec(documentedJob(name))
  const step = steps.find((each) => each.name === name)
  const keys = Object.fromEntries(secrets.map((secret) => [secret, model.apiKey]))
  return { setup: setup.map(({ run }) => run), run: step?.run ?? '', resume: step?.resume ?? '', paths: checkpoint.paths ?? [], env: { ...env, ...keys, ...modelEnvironment(name, model) } }
}

/** How an agent is told of the model. */
export function modelEnvironment(name: RealAgent['name'], { url }: ModelServer): Record<string, string> {
  switch (name) {
    case 'claude':
      return { ANTHROPIC_BASE_URL: url, CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1', CLAUDE_CODE_MAX_RETRIES: '2' }
    case 'qwen':
      return { OPENAI_BASE_URL: `${url}/v1`, OPENAI_MODEL: 'obedient' }
    case 'gemini':
      return { GOOGLE_GEMINI_BASE_URL: url }
    case 'codex':
      return { CODEX_OPTIONS: `-m gpt-5 -c model_provider=p -c model_providers.p={name="p",base_url="${url}/v1",env_key="CODEX_API_KEY",wire_api="responses"}` }
    default:
      throw new Error(`nobody says how ${name} is told of a model`)
  }
}
