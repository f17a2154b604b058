import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { configFileNames } from '../config/load.js'

/** The files that `switchyard init` writes, by name. Both are read as they are by the commands. */
const config = `import { defineConfig } from 'switchyard/config'

// What "switchyard consume" runs with, beside your own Redis and git host. "switchyard dev" needs none of it.
export default defineConfig({
  deployment: 'production',
  redis: { url: 'redis://127.0.0.1:6379' },
  // Or a Code Storage: { type: 'code-storage', org: 'acme' }, with its key in PIERRE_PRIVATE_KEY.
  git: { type: 'https', url: 'https://git.example.com', tokenEnv: 'GIT_TOKEN' },
  // This machine. At a service: { name: 'e2b', type: 'e2b', limit: { sandboxes: 20 } }, with its key in E2B_API_KEY.
  providers: [{ name: 'local', type: 'local', limit: { sandboxes: 2 } }],
  // What jobs may ask for by name, from the consumers' environment.
  consumer: { secrets: ['ANTHROPIC_API_KEY'] },
})
`

const job = `{
  "repository": "dev/project",
  "steps": [
    { "name": "agent", "run": "echo \\"agent at work: $PROMPT\\" && echo fixed >> NOTES.md", "timeout": "40m" },
    { "name": "check", "run": "git diff && test -s NOTES.md" }
  ],
  "env": { "PROMPT": "Fix the failing test" },
  "push": { "message": "Fix the failing test" },
  "timeout": "1h"
}
`

export const configName = configFileNames[0]
export const jobName = 'agent-job.json'

/** What became of one of the files. */
export interface InitFile {
  readonly path: string
  readonly written: boolean
  /** What is there instead, when it was not written. */
  readonly instead: string | null
}

/**
 * Writes a small configuration and a job into a folder. What is there stays as it is; of configurations one is enough, whatever its kind.
 * @throws the system's error when a file can't be written.
 */
export async function writeInitFiles(folder: string): Promise<InitFile[]> {
  const other = configFileNames.map((name) => join(folder, name)).find((path) => existsSync(path))
  const files: InitFile[] = []
  for (const [name, text] of [[configName, config], [jobName, job]] as const) {
    const path = join(folder, name)
    const instead = name === configName && other !== undefined ? other : await writeNew(path, text) ? null : path
    files.push({ path, written: instead === null, instead })
  }
  return files
}

/** @returns whether it was written: never over anything, not through a link either. */
async function writeNew(path: string, text: string): Promise<boolean> {
  try {
    await writeFile(path, text, { flag: 'wx' })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}
