import { describe, expect, it } from 'vitest'
import { InvalidInputError } from '../../src/job/errors.js'
import { parseJobSpec, parseQueuedSpec } from '../../src/job/spec.js'

const good = { repository: 'acme/web', steps: ['npm test'] }

function problems(input: unknown, maxBytes?: number): readonly string[] {
  try {
    parseJobSpec(input, maxBytes)
  } catch (error) {
    if (error instanceof InvalidInputError) return error.problems
    throw error
  }
  return []
}

describe('a job spec', () => {
  it('gets its defaults, and durations become milliseconds', () => {
    expect(
      parseJobSpec({ ...good, timeout: '1.5h', steps: ['npm test', { name: 'agent', run: 'true', timeout: '40m', cwd: 'packages/web' }] }),
    ).toMatchObject({
      timeoutMs: 5_400_000,
      priority: 100,
      push: {},
      checkpoint: { everySeconds: 60 },
      network: 'open',
      setup: [],
      steps: [
        { name: 'step 1', run: 'npm test', timeoutMs: undefined },
        { name: 'agent', timeoutMs: 2_400_000, cwd: 'packages/web' },
      ],
    })
  })

  it.each([
    [{ push: true }, 'push: must be false, or an object such as'],
    [{ push: 'no' }, 'push: must be false, or an object such as'],
    [{ push: { message: 5 } }, 'push.message: must be a text'],
    [{ network: true }, 'network: must be "open", "git-only", "none" or a list of hosts'],
    [{ network: 'closed' }, 'network: must be "open", "git-only", "none" or a list of hosts'],
    [{ network: [] }, 'network: is empty; name at least one host'],
    [{ steps: [5] }, 'steps[0]: must be a command, or an object such as'],
    [{ steps: [{ rum: 'x' }] }, 'steps[0].run: is missing; give the command'],
  ])('tells every form that a field may have: %j', (fields, problem) => {
    expect(problems({ ...good, ...fields })[0]).toContain(problem)
  })

  it('names what moves along with its checkpoints, plainly', () => {
    const { checkpoint, steps } = parseJobSpec({
      ...good,
      steps: [{ run: 'agent', resume: 'agent --resume' }],
      checkpoint: { paths: ['~/.claude/projects/', './node_modules//.cache', '.venv', './~odd', '~/.local/./share'] },
    })
    expect(checkpoint).toEqual({ everySeconds: 60, paths: ['~/.claude/projects', 'node_modules/.cache', '.venv', './~odd', '~/.local/share'] })
    expect(steps).toMatchObject([{ run: 'agent', resume: 'agent --resume' }])
  })

  it('without what is new is what an older release reads', () => {
    const queued = JSON.parse(JSON.stringify(parseJobSpec({ ...good, checkpoint: {} }))) as { checkpoint: unknown; push: unknown; steps: unknown }
    expect(queued).toMatchObject({ push: {}, steps: [{ name: 'step 1', run: 'npm test', env: {} }] })
    expect(queued.checkpoint).toEqual({ everySeconds: 60 })
    expect(Object.keys((queued.steps as object[])[0] ?? {}).sort()).toEqual(['env', 'name', 'run'])
  })

  it('names a secret, or one that its provider is to add to requests outside of the sandbox', () => {
    const inject = { host: 'API.example.com', header: 'x-api-key', prefix: 'Bearer ' }
    const spec = parseJobSpec({ ...good, secrets: ['A_KEY', { name: 'B_KEY', inject }], network: ['*.example.com'] })
    expect(spec).toMatchObject({ secrets: ['A_KEY', 'B_KEY'], injects: [{ name: 'B_KEY', host: 'api.example.com', header: 'x-api-key', prefix: 'Bearer ' }] })
    // As the queue holds it; and where there are none, an older release reads it.
    expect(parseQueuedSpec(JSON.parse(JSON.stringify(spec)))).toEqual(spec)
    expect(JSON.stringify(parseJobSpec({ ...good, secrets: ['A_KEY'] }))).not.toContain('injects')
  })

  it.each([
    [{ secrets: [5] }, 'secrets[0]: must be a name such as "API_KEY", or { name, inject: { host, header } }'],
    [{ secrets: [{ name: 'A', inject: { host: 'https://example.com', header: 'x' } }] }, 'secrets[0].inject.host: must be one host name'],
    [{ secrets: [{ name: 'A', inject: { host: 'example.com', header: 'a b' } }] }, 'secrets[0].inject.header: must be the name of a header'],
    [{ secrets: [{ name: 'A', inject: { host: 'example.com', header: 'Host' } }] }, 'secrets[0].inject.header: says how a request is sent'],
    [{ secrets: [{ name: 'A', inject: { host: 'example.com', header: 'x', fallback: true } }] }, 'secrets[0].inject.fallback: must be "environment", or left out'],
    [{ secrets: ['A', { name: 'A', inject: { host: 'example.com', header: 'x' } }] }, 'secrets[1].name: "A" is named twice'],
    [{ secrets: ['A', 'B'].map((name, index) => ({ name, inject: { host: 'example.com', header: index === 0 ? 'X' : 'x' } })) }, 'secrets[1].inject.header: "x" of example.com is set twice'],
    [{ secrets: [{ name: 'A', inject: { host: 'example.com', header: 'x' } }], network: ['other.com'] }, 'secrets[0].inject.host: "example.com" is not let through by network'],
    [{ secrets: [{ name: 'A', inject: { host: 'example.com', header: 'x' } }], env: { A: '1' } }, 'env.A: is also named in secrets'],
  ])('says what is wrong with a secret: %j', (fields, problem) => {
    expect(problems({ ...good, ...fields }).join('\n')).toContain(problem)
  })

  it('takes the example of the documentation', () => {
    const spec = {
      repository: 'acme/web',
      ref: 'main',
      setup: ['npm ci'],
      steps: [{ name: 'agent', run: 'claude -p "fix the failing test"', timeout: '40m' }, 'npm test'],
      env: { CI: '1' },
      secrets: ['ANTHROPIC_API_KEY'],
      push: { message: 'Fix the failing test' },
      promote: { to: 'fix/failing-test', strategy: 'ff_only' },
      checkpoint: { everySeconds: 60 },
      providers: { prefer: ['e2b'], deny: [] },
      resources: { cpu: 2, memoryMiB: 2048 },
      timeout: '1h',
      priority: 10,
      idempotencyKey: 'issue-4711',
      tenant: 'acme',
      metadata: { issue: 4711 },
    }
    expect(problems(spec)).toEqual([])
  })
})

describe('a bad job spec gets a sentence that names the field, the problem and the mend', () => {
  it.each<[string, unknown, string]>([
    ['an unknown field', { ...good, comands: [] }, 'comands: is not a known field of job spec; remove it or check its spelling'],
    ['an unknown field of a step', { ...good, steps: [{ run: 'x', timout: '1s' }] }, 'steps[0].timout: is not a known field of steps[0] (did you mean "timeout"?)'],
    ['no steps', { ...good, steps: [] }, 'steps: is empty; give at least one step'],
    ['an empty step', { ...good, steps: ['  '] }, 'steps[0]: is empty; give the command that the step runs'],
    ['a step without a command', { ...good, steps: [{ name: 'x' }] }, 'steps[0].run: is missing'],
    ['a NUL byte in a command', { ...good, steps: ['a\0b'] }, 'steps[0]: holds a NUL byte'],
    ['two steps of one name', { ...good, steps: [{ name: 'a', run: 'x' }, { name: 'a', run: 'y' }] }, 'steps[1].name: "a" is used twice'],
    ['a negative timeout', { ...good, timeout: '-5m' }, 'timeout: "-5m" is not a duration; write a number and a unit'],
    ['a timeout without a unit', { ...good, timeout: 30 }, 'timeout: must be a duration with its unit'],
    ['a timeout of nothing', { ...good, timeout: '0s' }, 'timeout: "0s" is out of range; give more than 0 and at most 7d'],
    ['an absurd timeout', { ...good, timeout: '400d' }, 'timeout: "400d" is out of range'],
    ['an absurd step timeout', { ...good, steps: [{ run: 'x', timeout: '1e9h' }] }, 'steps[0].timeout: "1e9h" is not a duration'],
    ['a target branch git refuses', { ...good, promote: { to: 'a..b' } }, 'promote.to: "a..b" holds ".."; give a branch name that git takes'],
    ['a target that is a full ref', { ...good, promote: { to: 'refs/heads/main' } }, 'promote.to: "refs/heads/main" is a full ref'],
    ['a ref that begins like an option', { ...good, ref: '--upload-pack=x' }, 'ref: "--upload-pack=x" starts with "-"'],
    ['no repository', { steps: ['x'] }, 'repository: is missing; give the id of the repository'],
    ['a repository in another namespace', { ...good, repository: 'acme/web+ephemeral' }, 'repository: "acme/web+ephemeral" must be parts of letters'],
    ['a repository above its root', { ...good, repository: 'acme/../web' }, 'repository: "acme/../web"'],
    ['a folder outside the repository', { ...good, steps: [{ run: 'x', cwd: '../..' }] }, 'steps[0].cwd: must be a path inside the repository'],
    ['a number as environment', { ...good, env: { CI: 1 } }, 'env.CI: must be a string; write "1", not 1'],
    ['a secret that is in env too', { ...good, env: { KEY: 'x' }, secrets: ['KEY'] }, 'env.KEY: is also named in secrets'],
    ['a promotion without a push', { ...good, push: false, promote: { to: 'x' } }, 'promote: needs a push'],
    ['priority 0', { ...good, priority: 0 }, 'priority: must be at least 1 (1 runs first)'],
    ['a provider preferred and denied', { ...good, providers: { prefer: ['e2b'], deny: ['e2b'] } }, 'providers.deny: "e2b" is denied and also'],
    ['an author whom git takes for nobody', { ...good, push: { author: { name: '.', email: 'a@b.c' } } }, 'push.author.name: "." holds nothing that git takes for a name; give a name such as'],
    ['an address that would end the line', { ...good, push: { author: { name: 'A', email: 'a@b.c>\n' } } }, 'push.author.email: "a@b.c>\n" holds a line end, "<" or ">"'],
    ['a message of nothing', { ...good, push: { message: ' \n' } }, 'push.message: is empty to git'],
    ['a kind of nested repositories that there is not', { ...good, push: { nestedRepositories: 'drop' } }, 'push.nestedRepositories: must be "files" or "gitlink"'],
    ...(
      [
        ['', 'is empty'],
        ['/etc', 'is absolute; write it relative to the repository'],
        ['~', 'is the whole home'],
        ['~/', 'is the whole home'],
        ['~root/.ssh', 'names somebody’s home'],
        ['.', 'is the repository itself'],
        ['./', 'is the repository itself'],
        ['../x', 'holds ".."'],
        ['~/../x', 'holds ".."'],
        ['a/../../x', 'holds ".."'],
        ['.git', 'leads into git’s own folder'],
        ['.git/hooks', 'leads into git’s own folder'],
        ['sub/.GIT/config', 'leads into git’s own folder'],
        ['~/.switchyard', 'is Switchyard’s own'],
        ['~/repository/x', 'is in the repository'],
        ['a\nb', 'holds a control character'],
        ['a\0b', 'holds a control character'],
        ['x'.repeat(1_001), 'is longer than 1000 bytes'],
      ] as const
    ).map(([path, sentence]): [string, unknown, string] => [`checkpoint.paths that hold ${JSON.stringify(path).slice(0, 20)}`, { ...good, checkpoint: { paths: [path] } }, `checkpoint.paths[0]: "${path}" ${sentence}`]),
    ['a path within another', { ...good, checkpoint: { paths: ['~/.claude', '~/.claude/projects'] } }, 'checkpoint.paths[1]: "~/.claude/projects" is in "~/.claude", which is named as well'],
    ['a path that is named twice', { ...good, checkpoint: { paths: ['a/', './a'] } }, 'checkpoint.paths[1]: "a" is in "a"'],
    ['too many paths', { ...good, checkpoint: { paths: Array.from({ length: 51 }, (_, index) => `p${index}`) } }, 'checkpoint.paths: names more than 50 paths'],
    ['paths of no size', { ...good, checkpoint: { paths: ['a'], maxPathsMiB: 0 } }, 'checkpoint.maxPathsMiB: must be at least 1'],
    ['a step that resumes from nothing', { ...good, steps: [{ run: 'x', resume: 'y' }] }, 'steps[0].resume: needs checkpoint.paths'],
    ['a step that resumes without checkpoints', { ...good, push: false, checkpoint: { paths: ['a'] }, steps: [{ run: 'x', resume: 'y' }] }, 'steps[0].resume: needs checkpoints; leave out "push: false"'],
    ['a setup step that resumes', { ...good, setup: [{ run: 'x', resume: 'y' }] }, 'setup[0].resume: is for steps'],
    ['an unknown strategy', { ...good, promote: { to: 'x', strategy: 'rebase' } }, 'promote.strategy: must be "ff_only", "ff_prefer" or "merge"'],
  ])('%s', (_what, input, sentence) => {
    expect(problems(input).join('\n')).toContain(sentence)
  })

  it('a spec over the size limit', () => {
    const large = { ...good, steps: ['x'.repeat(1024 * 1024)] }
    expect(problems(large)[0]).toMatch(/^job spec: is 10486\d\d bytes as JSON, over the limit of 1048576; commit large inputs/)
    expect(problems(large, 2 * 1024 * 1024)).toEqual([])
  })

  it('all problems are told at once, as many as anybody reads', () => {
    expect(problems({ repository: '', steps: [], priority: -1 })).toHaveLength(3)
    expect(problems({ ...good, ...Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`field${index}`, 1])) })).toHaveLength(200)
    expect(problems({ ...good, steps: Array(1_000).fill(1) })).toHaveLength(200)
    expect(problems({ ...good, steps: Array(10_001).fill('true'), setup: Array(10_001).fill(1) })).toEqual(['steps: are more than 10000; put them into a script of the repository', 'setup: are more than 10000; put them into a script of the repository'])
  })

  it.each([[null], ['text'], [[]], [undefined]])('%j is no job at all', (input) => {
    expect(problems(input)).toHaveLength(1)
  })
})
