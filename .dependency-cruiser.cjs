// Imports run downward only. Each folder may import the ones after it in its own row and nothing else.
const layers = {
  cli: ['telemetry', 'mcp', 'http', 'producers', 'consumers', 'monitor', 'embedded', 'config', 'webhooks', 'artifacts', 'providers', 'git', 'runner', 'events', 'store', 'job'],
  embedded: ['git', 'job'],
  config: ['telemetry', 'consumers', 'webhooks', 'artifacts', 'providers', 'git', 'runner', 'events', 'store', 'job'],
  mcp: ['http', 'providers', 'job'],
  http: ['telemetry', 'producers', 'artifacts', 'events', 'store', 'job'],
  monitor: ['telemetry', 'webhooks', 'events', 'store', 'job'],
  consumers: ['telemetry', 'producers', 'webhooks', 'artifacts', 'providers', 'git', 'runner', 'events', 'store', 'job'],
  // Consumers begin the runs of schedules, through the producers' own door.
  producers: ['telemetry', 'events', 'store', 'job'],
  webhooks: ['telemetry', 'events', 'store', 'job'],
  events: ['store', 'job'],
  runner: ['providers', 'git', 'job'],
  artifacts: ['providers', 'job'],
  providers: ['job'],
  git: ['job'],
  store: ['job'],
  telemetry: ['job'],
  job: [],
}

// The rooms of src/consumers, the same way: each may import the ones after it in its own row, and the settings. The files beside
// them are what the upper rooms share.
const shared = ['consumer-context', 'interruption', 'job-budget', 'job-trace', 'key-health', 'liveness', 'measured', 'run-context', 'sandbox-access']
const rooms = {
  intake: ['supervision', 'ending', 'placing', 'output', ...shared],
  supervision: ['collecting', 'ending', 'placing', 'transfer', 'output', ...shared],
  collecting: [...shared],
  reaping: ['ending', 'placing'],
  ending: [],
  placing: ['transfer'],
  transfer: [],
  output: [],
}

const betweenRooms = Object.entries(rooms).map(([from, allowed]) => ({
  name: `consumers-${from}-imports-downward`,
  comment: `src/consumers/${from} may import only: ${[from, ...allowed, 'settings'].join(', ')}`,
  severity: 'error',
  from: { path: `^src/consumers/${from}/` },
  to: { path: '^src/consumers/', pathNot: [from, ...allowed, 'settings'].map((name) => `^src/consumers/${name}[./]`) },
}))

const forbidden = Object.entries(layers).map(([from, allowed]) => ({
  name: `${from}-imports-downward`,
  comment: `src/${from} may import only: ${[from, ...allowed].join(', ')}`,
  severity: 'error',
  from: { path: `^src/${from}/`, ...(from === 'providers' ? { pathNot: '^src/providers/conformance/' } : {}) },
  to: { path: '^src/', pathNot: [from, ...allowed].map((name) => `^src/${name}/`) },
}))

module.exports = {
  forbidden: [
    ...forbidden,
    ...betweenRooms,
    {
      name: 'consumers-shared-imports-downward',
      comment: 'What the upper rooms of src/consumers share imports none of them.',
      severity: 'error',
      from: { path: shared.map((name) => `^src/consumers/${name}[.]`) },
      to: { path: '^src/consumers/(intake|supervision|collecting|reaping|ending)/' },
    },
    {
      name: 'conformance-imports-downward',
      comment: 'The conformance suite drives a provider through the runner, as a consumer would.',
      severity: 'error',
      from: { path: '^src/providers/conformance/' },
      to: { path: '^src/', pathNot: ['^src/providers/', '^src/runner/', '^src/git/', '^src/embedded/', '^src/job/'] },
    },
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    { name: 'not-to-test', severity: 'error', from: { path: '^src' }, to: { path: '^(test|bench|script)' } },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'types', 'node', 'default'] },
  },
}
