/**
 * An agent alone, without Switchyard: it is killed in the middle of its third task, what a recipe keeps of it is taken to another home,
 * and it is told to go on there. The model (test/servers/model) tells what it remembers.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { git, until } from '../e2e/deployment.js'

/** The part of a job that is about the agent. */
export interface Recipe {
  /** Run first in every sandbox. */
  readonly setup: readonly string[]
  readonly run: string
  readonly resume: string
  /** As in `checkpoint.paths`. */
  readonly paths: readonly string[]
  /** Besides SESSION, PROMPT and what a sandbox has. */
  readonly env: Readonly<Record<string, string>>
}

/** Four tasks; in its first sandbox the third one does not end. */
export const prompt = [
  'Do these four tasks, each with one call of your shell tool.',
  'task 1: echo one >> one.txt',
  'task 2: echo two >> two.txt && git add two.txt && git commit -qm "Add two"',
  'task 3: echo three >> three.txt; while [ "$SWITCHYARD_ATTEMPT" = 1 ] && [ -e three.txt ]; do sleep 1; done',
  'task 4: echo four >> four.txt',
].join('\n')

/** Who the agent's commits are by. */
export const identity = { GIT_AUTHOR_NAME: 'Agent', GIT_AUTHOR_EMAIL: 'agent@example.invalid', GIT_COMMITTER_NAME: 'Agent', GIT_COMMITTER_EMAIL: 'agent@example.invalid' }

export class Agent {
  readonly repository: string
  private constructor(private readonly recipe: Recipe, private readonly folder: string, private readonly session: string) {
    this.repository = join(folder, 'repository')
  }

  /** @param folder for its homes and its repository. */
  static async prepare(recipe: Recipe, folder: string, session: string): Promise<Agent> {
    const agent = new Agent(recipe, folder, session)
    await mkdir(agent.repository)
    await git(agent.repository, 'init', '-q', '-b', 'main')
    return agent
  }

  /** Starts it and kills it and all that it started, as a machine dies, once its third task has written its line and what came of the second is on the disk. */
  async diesInTheMiddle(): Promise<void> {
    const child = await this.start(this.recipe.run, 1)
    const ended = once(child.process, 'exit').then(() => Promise.reject(new Error(`the agent ended by itself: ${child.output()}`)))
    // The shell makes the file before anything is written to it.
    await Promise.race([until('the third task', async () => (await readFile(join(this.repository, 'three.txt'), 'utf8').catch(() => '')) !== '', 120_000), ended])
    await Promise.race([until('the second task in what it keeps', () => this.remembers(/\[task 2 done\](?!')/), 120_000), ended])
    ended.catch(() => undefined)
    process.kill(-child.process.pid!, 'SIGKILL')
  }

  /** Whether what the recipe keeps in the home holds that, and not only as part of a command: agents write it when they get to it. */
  private async remembers(text: RegExp): Promise<boolean> {
    for (const path of this.recipe.paths) {
      if (!path.startsWith('~/')) continue
      const at = join(this.home(1), path.slice(2))
      const found = await readdir(at, { recursive: true, withFileTypes: true }).catch(() => [])
      for (const entry of found) if (entry.isFile() && text.test(await readFile(join(entry.parentPath, entry.name), 'utf8').catch(() => ''))) return true
    }
    return false
  }

  /** Takes what the recipe keeps to another home. */
  async moves(): Promise<void> {
    for (const path of this.recipe.paths) {
      if (!path.startsWith('~/')) continue
      const [from, to] = [1, 2].map((attempt) => join(this.home(attempt), path.slice(2))) as [string, string]
      await mkdir(dirname(to), { recursive: true })
      await cp(from, to, { recursive: true })
    }
  }

  /** Tells it to go on, in the other home. @returns its exit code and its output, both streams together. */
  async resumes(command = this.recipe.resume): Promise<{ readonly code: number | null; readonly output: string }> {
    const child = await this.start(command, 2)
    const [code] = (await once(child.process, 'close')) as [number | null]
    return { code, output: child.output() }
  }

  home(attempt: number): string {
    return join(this.folder, `home-${attempt}`)
  }

  private async start(then: string, attempt: number) {
    const command = [...this.recipe.setup, then].join('\n')
    await mkdir(this.home(attempt), { recursive: true })
    const { SESSION = this.session, ...env } = this.recipe.env
    const child = spawn('bash', ['-c', command], {
      cwd: this.repository,
      detached: true,
      env: { PATH: process.env.PATH, HOME: this.home(attempt), LANG: 'C.UTF-8', ...identity, ...env, SESSION, PROMPT: prompt, SWITCHYARD_ATTEMPT: String(attempt), ...(attempt > 1 ? { SWITCHYARD_RESUMED: '1' } : {}) },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text))
    return { process: child, output: () => output }
  }
}
