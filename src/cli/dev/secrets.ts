import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { parseEnv } from 'node:util'
import { InvalidInputError, errorMessage } from '../../job/errors.js'

/** What jobs of `switchyard dev` may name as their secrets. Values stay in this process. */
export interface DevSecrets {
  readonly names: readonly string[]
  readonly environment: NodeJS.ProcessEnv
  /** Where they are from, as a sentence's part; undefined when there are none. */
  readonly said: string | undefined
}

const variable = /^[A-Za-z_]\w*$/

/**
 * All of a `.env` file, and what is named of the environment, which wins over the file.
 * @param file undefined: `.env` in the working folder, where there is one.
 * @throws InvalidInputError for a file that can't be read, and a name that is in neither.
 */
export async function devSecrets(named: readonly string[], file: string | undefined, environment: NodeJS.ProcessEnv): Promise<DevSecrets> {
  const path = resolve(file ?? '.env')
  const inFile = await readEnvFile(path, file !== undefined)
  const merged = { ...inFile, ...environment }
  for (const name of named) {
    // Whoever gives a value in its place has a secret there.
    if (!variable.test(name)) throw new InvalidInputError('--secret: must be the name of a variable, such as ANTHROPIC_API_KEY; its value comes from the environment or from .env')
    if ((merged[name] ?? '') === '') throw new InvalidInputError(`--secret: ${name} is neither in the environment nor in ${path}; set it there, or leave it out`)
  }
  const names = [...new Set([...Object.keys(inFile), ...named])].filter((name) => (merged[name] ?? '') !== '').sort()
  return { names, environment: merged, said: names.length === 0 ? undefined : `${names.join(', ')} (jobs get those that they name)` }
}

async function readEnvFile(path: string, must: boolean): Promise<Record<string, string>> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (!must && (error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw new InvalidInputError(`--env-file: ${path} can't be read (${errorMessage(error)})`)
  }
  const values = Object.entries(parseEnv(text)).flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as const]))
  return Object.fromEntries(values.filter(([name]) => variable.test(name)))
}
