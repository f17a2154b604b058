#!/usr/bin/env node
/**
 * An agent for the tests, in one file that needs nothing but Node and sh. It keeps its conversations as the agents of this world do, so
 * that what makes one of them go on in another sandbox, or forget everything, does the same to this one:
 *
 * - a conversation is a file of JSON lines, ~/.standin/projects/<the working directory, every other character than letters and digits
 *   a "-">/<id>.jsonl, to which each message is appended before anything is done about it;
 * - `--session-id ID` begins one and refuses an id that there is; `--resume ID` goes on with one. Where there is none of that id for
 *   this working directory, it begins one, and says nothing about it. `--resume FILE`, a path, goes on with that one from anywhere;
 * - a call without a result, and a last line that was cut off, are left out of what the model is shown;
 * - SIGTERM ends it with 143, or, with STANDIN_ON_TERM=succeed, as if it had done everything.
 *
 *     stand-in.mjs (--session-id ID | --resume ID | --resume FILE) PROMPT
 *
 * STANDIN_BASE_URL and STANDIN_API_KEY name a model that speaks Anthropic's Messages (test/servers/model).
 */
import { spawn } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, dirname, join } from 'node:path'

const [how, which = '', prompt] = process.argv.slice(2)
const named = how === '--resume' && which.includes('/')
const id = named ? basename(which, '.jsonl') : which
if (!['--session-id', '--resume'].includes(how) || !/^[\w-]+$/.test(id) || prompt === undefined) fail('usage: stand-in.mjs (--session-id ID | --resume ID | --resume FILE) PROMPT')
const { STANDIN_BASE_URL: url, STANDIN_API_KEY: key, STANDIN_ON_TERM: onTerm } = process.env
if (url === undefined || key === undefined) fail('STANDIN_BASE_URL and STANDIN_API_KEY are not both set')

let running
process.on('SIGTERM', () => {
  running?.kill('SIGKILL')
  if (onTerm === 'succeed') tell({ type: 'result', result: 'done', is_error: false })
  process.exit(onTerm === 'succeed' ? 0 : 143)
})

const transcript = named ? which : join(homedir(), '.standin', 'projects', process.cwd().replace(/[^A-Za-z0-9]/g, '-'), `${id}.jsonl`)
if (how === '--session-id' && existsSync(transcript)) fail(`session ${id} is already in use`)
const messages = how === '--resume' ? remembered() : []
tell({ type: 'init', session: id, cwd: process.cwd(), remembered: messages.length })
keep({ role: 'user', content: prompt })

for (;;) {
  const { content, stop_reason: reason } = await ask()
  keep({ role: 'assistant', content })
  if (reason !== 'tool_use') {
    tell({ type: 'result', result: content[0].text, is_error: false })
    break
  }
  const results = []
  for (const block of content) {
    if (block.type === 'tool_use') results.push({ type: 'tool_result', tool_use_id: block.id, ...(await run(block.input.command)) })
  }
  keep({ role: 'user', content: results })
}

/** Asks the model; what can't be reached or is busy is asked again, a few times. */
async function ask() {
  for (let tries = 1; ; tries += 1) {
    const answer = await fetch(`${url}/v1/messages`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-api-key': key, 'anthropic-version': '2023-06-01' },
      body: JSON.stringify({ model: 'obedient', max_tokens: 1024, system: 'You are an agent.', messages, tools: [{ name: 'Bash', description: 'Runs a command.', input_schema: { type: 'object' } }] }),
    }).catch((error) => error)
    if (answer instanceof Response && answer.ok) return answer.json()
    const problem = answer instanceof Response ? `${answer.status} ${await answer.text()}` : String(answer.cause ?? answer)
    if (tries === 5 || (answer instanceof Response && answer.status < 500)) fail(`the model does not answer: ${problem}`)
    await new Promise((resolve) => setTimeout(resolve, 200 * 2 ** tries))
  }
}

function run(command) {
  return new Promise((resolve) => {
    const child = spawn('sh', ['-c', command], { stdio: ['ignore', 'pipe', 'pipe'] })
    running = child
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text))
    child.once('close', (code) => {
      tell({ type: 'tool', output })
      resolve({ content: output, is_error: code !== 0 })
    })
  })
}

function keep(message) {
  mkdirSync(dirname(transcript), { recursive: true })
  appendFileSync(transcript, `${JSON.stringify(message)}\n`)
  messages.push(message)
}

function remembered() {
  if (!existsSync(transcript)) return []
  const lines = readFileSync(transcript, 'utf8').split('\n').flatMap((line) => {
    try {
      return line === '' ? [] : [JSON.parse(line)]
    } catch {
      return []
    }
  })
  const answered = new Set(lines.flatMap(({ content }) => (Array.isArray(content) ? content : [])).map((block) => block.tool_use_id))
  return lines.filter(({ role, content }) => role !== 'assistant' || content.every((block) => block.type !== 'tool_use' || answered.has(block.id)))
}

function tell(event) {
  process.stdout.write(`${JSON.stringify(event)}\n`)
}

function fail(problem) {
  process.stderr.write(`stand-in: ${problem}\n`)
  process.exit(1)
}
