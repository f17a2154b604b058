import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { z } from 'zod'
import { environmentFields } from '../../src/config/environment.js'
import { loadConfig } from '../../src/config/load.js'
import { metricTable, prometheusName } from '../../src/telemetry/metric-table.js'

/** The chart. Its templates are rendered where there is helm; what can be held against its files without it is held in any case. */
const chart = 'deploy/helm/switchyard'
const hasHelm = spawnSync('helm', ['version']).status === 0
const hasSchemas = spawnSync('python3', ['-c', 'import kubernetes_validate']).status === 0
const withHelm = hasHelm ? it : it.skip

const objectSchema = z.looseObject({ apiVersion: z.string(), kind: z.string(), metadata: z.looseObject({ name: z.string(), labels: z.record(z.string(), z.string()) }), spec: z.looseObject({}).optional() })
type KubernetesObject = z.output<typeof objectSchema>
const labels = z.record(z.string(), z.string())
const deploymentSpec = z.looseObject({
  replicas: z.int().optional(),
  selector: z.object({ matchLabels: labels }),
  template: z.looseObject({
    metadata: z.object({ labels, annotations: labels }),
    spec: z.looseObject({
      automountServiceAccountToken: z.literal(false),
      terminationGracePeriodSeconds: z.int().optional(),
      securityContext: z.looseObject({ runAsNonRoot: z.literal(true), runAsUser: z.int().min(1), seccompProfile: z.object({ type: z.literal('RuntimeDefault') }) }),
      volumes: z.array(z.looseObject({ name: z.string() })),
      containers: z.tuple([
        z.looseObject({
          image: z.string(),
          args: z.array(z.string()),
          securityContext: z.object({ allowPrivilegeEscalation: z.literal(false), readOnlyRootFilesystem: z.literal(true), capabilities: z.object({ drop: z.tuple([z.literal('ALL')]) }) }),
          env: z.array(z.strictObject({ name: z.string(), value: z.string() })),
          envFrom: z.array(z.object({ secretRef: z.object({ name: z.string() }) })).default([]),
          ports: z.array(z.object({ name: z.string(), containerPort: z.int() })),
          livenessProbe: z.looseObject({ httpGet: z.object({ path: z.literal('/healthz'), port: z.literal('monitor') }) }),
          readinessProbe: z.looseObject({ httpGet: z.object({ path: z.literal('/readyz'), port: z.literal('monitor') }) }),
          startupProbe: z.looseObject({}),
          volumeMounts: z.array(z.looseObject({ name: z.string(), mountPath: z.string() })),
          resources: z.looseObject({}),
        }),
      ]),
    }),
  }),
})

let folder: string
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'switchyard-helm-'))))
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }))

const files = ['Chart.yaml', 'values.yaml', 'values.schema.json'].map((name) => readFileSync(join(chart, name), 'utf8'))
const [chartFile = '', valuesText = '', schemaText = ''] = files
const values = z.record(z.string(), z.unknown()).parse(parse(valuesText))

function template(values: object): { status: number | null; objects: KubernetesObject[]; text: string; stderr: string } {
  const file = join(folder, 'values.json')
  writeFileSync(file, JSON.stringify(values))
  const { status, stdout, stderr } = spawnSync('helm', ['template', 'main', chart, '--namespace', 'agents', '--kube-version', '1.31.0', '--values', file], { encoding: 'utf8' })
  const objects = status === 0 ? parseAllDocuments(stdout).map((document) => document.toJS() as unknown).filter((each) => each !== null).map((each) => objectSchema.parse(each)) : []
  return { status, objects, text: stdout, stderr }
}
const one = (objects: readonly KubernetesObject[], kind: string, name: string): KubernetesObject => {
  const found = objects.filter((each) => each.kind === kind && each.metadata.name === name)
  expect(found.map(({ metadata }) => metadata.name), `${kind} ${name}`).toHaveLength(1)
  return found[0]!
}

/** Everything that there is, and the least. */
const everything = {
  image: { repository: 'registry.test/switchyard', digest: `sha256:${'a'.repeat(64)}` },
  imagePullSecrets: [{ name: 'pull' }],
  redis: { url: 'rediss://redis.test:6380' },
  config: { ...(values['config'] as object), queue: { name: 'odd "name"' }, redis: { tls: { caFile: '/etc/redis-tls/ca.crt' } } },
  secrets: { consumer: ['git-host', 'providers'], redis: 'redis', board: 'board', files: [{ name: 'redis-tls', secret: 'redis-tls', path: '/etc/redis-tls' }, { name: 'more', configMap: 'more', path: '/etc/more' }] },
  consumer: { podAnnotations: { a: 'b' }, nodeSelector: { pool: 'agents' }, tolerations: [{ operator: 'Exists' }], affinity: { nodeAffinity: {} } },
  keda: { enabled: true },
  board: { enabled: true, writable: true },
  monitor: { podMonitor: { enabled: true, labels: { release: 'prometheus' } } },
  networkPolicy: { from: [{ podSelector: { matchLabels: { app: 'backend' } } }], monitorFrom: [{ namespaceSelector: { matchLabels: { name: 'monitoring' } } }] },
  serviceAccount: { annotations: { a: 'b' } },
}
const [, documented = ''] = /```yaml\n([^]*?)```/.exec(readFileSync('docs/kubernetes.md', 'utf8')) ?? []
const cases: [string, object][] = [
  ['as docs/kubernetes.md does it', z.looseObject({ config: z.looseObject({}) }).parse(parse(documented))],
  ['as it comes', {}],
  ['with everything', everything],
  ['with the least', { serve: { enabled: false }, networkPolicy: { enabled: false }, serviceAccount: { create: false }, monitor: { annotations: false }, consumer: { spread: null } }],
  ['with KEDA and no API', { serve: { enabled: false }, keda: { enabled: true } }],
]

describe('the chart', () => {
  withHelm(`passes helm’s own lint${hasHelm ? '' : ' (helm is not here)'}`, () => {
    for (const [name, given] of cases) {
      const file = join(folder, 'lint.json')
      writeFileSync(file, JSON.stringify(given))
      const { status, stdout } = spawnSync('helm', ['lint', '--strict', chart, '--values', file], { encoding: 'utf8' })
      expect(status, `${name}: ${stdout}`).toBe(0)
    }
  })

  withHelm.each(cases)('makes pods that may do nothing but their work, each with probes and nobody else’s secrets: %s', (_name, given) => {
    const { status, objects, stderr } = template(given)
    expect(status, stderr).toBe(0)
    const deployments = objects.filter(({ kind }) => kind === 'Deployment')
    const keys = new Map<string, string[]>()
    for (const { metadata, spec } of deployments) {
      const { selector, template: pod } = deploymentSpec.parse(spec)
      const [container] = pod.spec.containers
      expect(pod.metadata.labels).toMatchObject(selector.matchLabels)
      for (const { mountPath, name } of container.volumeMounts) expect(pod.spec.volumes.map((volume) => volume.name), mountPath).toContain(name)
      for (const { name } of container.env) expect([...Object.keys(environmentFields), 'SWITCHYARD_CONFIG'], name).toContain(name)
      keys.set(container.args[0] ?? '', container.envFrom.map(({ secretRef }) => secretRef.name))
      // Two deployments' pods are never each other's.
      const others = deployments.filter((each) => each.metadata.name !== metadata.name).map((each) => deploymentSpec.parse(each.spec).template.metadata.labels)
      for (const other of others) expect(Object.entries(selector.matchLabels).every(([name, value]) => other[name] === value)).toBe(false)
    }
    if (given === everything) {
      expect(Object.fromEntries(keys)).toEqual({ consume: ['redis', 'git-host', 'providers'], serve: ['redis'], board: ['board', 'redis'] })
      expect(deploymentSpec.parse(one(objects, 'Deployment', 'main-switchyard-consumer').spec).template.spec.containers[0].image).toBe(`registry.test/switchyard@sha256:${'a'.repeat(64)}`)
    }
    expect(objects.some(({ kind }) => kind === 'Secret')).toBe(false)
    for (const { kind, metadata, spec } of objects.filter(({ kind: each }) => each === 'PodDisruptionBudget' || each === 'Service')) {
      const parsed = z.looseObject({ selector: z.union([z.object({ matchLabels: labels }), labels]) }).parse(spec).selector
      const wanted = 'matchLabels' in parsed && typeof parsed['matchLabels'] === 'object' ? parsed['matchLabels'] : (parsed as Record<string, string>)
      const matched = deployments.filter((each) => Object.entries(wanted).every(([name, value]) => deploymentSpec.parse(each.spec).template.metadata.labels[name] === value))
      expect(matched, `${kind} ${metadata.name}`).toHaveLength(1)
    }
  })

  withHelm('scales by a number of /metrics, which then alone says how many consumers there are', () => {
    const { objects } = template(everything)
    expect(deploymentSpec.parse(one(objects, 'Deployment', 'main-switchyard-consumer').spec).replicas).toBeUndefined()
    expect(deploymentSpec.parse(one(template({}).objects, 'Deployment', 'main-switchyard-consumer').spec).replicas).toBe(2)
    const scaled = z.looseObject({ scaleTargetRef: z.object({ name: z.string() }), triggers: z.tuple([z.looseObject({ type: z.string(), metadata: labels })]) }).parse(one(objects, 'ScaledObject', 'main-switchyard-consumer').spec)
    expect(scaled.scaleTargetRef.name).toBe('main-switchyard-consumer')
    const { url = '', valueLocation = '', format } = scaled.triggers[0].metadata
    expect(format).toBe('prometheus')
    expect(valueLocation).toBe('switchyard_queue_wanted{queue="odd \\"name\\""}')
    expect(prometheusName('switchyard.queue.wanted', metricTable['switchyard.queue.wanted'])).toBe('switchyard_queue_wanted')
    const { hostname, port, pathname } = new URL(url)
    expect([hostname, port, pathname]).toEqual(['main-switchyard-consumer-metrics.agents', '9464', '/metrics'])
    one(objects, 'Service', 'main-switchyard-consumer-metrics')
  })

  withHelm('mounts the configuration that was given, and starts pods anew when it changes', async () => {
    const configOf = (objects: readonly KubernetesObject[]) => z.looseObject({ data: z.object({ 'switchyard.config.json': z.string() }) }).parse(one(objects, 'ConfigMap', 'main-switchyard')).data['switchyard.config.json']
    const hashOf = (objects: readonly KubernetesObject[]) => deploymentSpec.parse(one(objects, 'Deployment', 'main-switchyard-consumer').spec).template.metadata.annotations['switchyard.dev/config']
    const [plain, other] = [template({}).objects, template({ config: { deployment: 'other' } }).objects]
    expect(hashOf(plain)).not.toBe(hashOf(other))
    const path = join(folder, 'switchyard.config.json')
    writeFileSync(path, configOf(other))
    const { config, warnings } = await loadConfig({ path, environment: { PIERRE_PRIVATE_KEY: 'x' } })
    expect(warnings).toEqual([])
    expect(config).toMatchObject({ deployment: 'other', providers: [{ name: 'e2b' }] })
  })

  withHelm.each<[string, object, RegExp]>([
    ['a board without a password', { board: { enabled: true } }, /secrets\.board: name a Secret with SWITCHYARD_BOARD_PASSWORD/],
    ['a misspelt value', { consumer: { replica: 3 } }, /replica/],
    ['fewer than no pods', { consumer: { replicas: -1 } }, /replicas/],
    ['a budget that lets nobody go', { disruptionBudget: { maxUnavailable: 0 } }, /maxUnavailable/],
    ['a password in the URL', { redis: { url: 'redis://user:password@redis:6379' } }, /url/],
    ['a key among the values', { config: { providers: [{ name: 'e2b', type: 'e2b', limit: { sandboxes: 1 }, apiKey: 'e2b_secret' }] } }, /providers/],
    ['no provider', { config: { providers: [] } }, /providers/],
    ['a port that an ordinary user can’t have', { serve: { port: 80 } }, /port/],
    ['a file in the place of the configuration', { secrets: { files: [{ name: 'x', secret: 'x', path: '/etc/switchyard' }] } }, /path/],
    ['a digest that is none', { image: { digest: 'latest' } }, /digest/],
  ])('refuses %s, and names it', (_name, given, sentence) => {
    const { status, stderr } = template(given)
    expect(status).not.toBe(0)
    expect(stderr).toMatch(sentence)
  })

  it.skipIf(!hasHelm || !hasSchemas)(`makes objects as Kubernetes’ own schemas want them${hasSchemas ? '' : ' (kubernetes_validate is not here)'}`, () => {
    for (const [name, given] of cases) {
      const known = template(given).objects.filter(({ apiVersion }) => !/keda|monitoring/.test(apiVersion))
      const file = join(folder, 'objects.json')
      writeFileSync(file, JSON.stringify(known))
      const program = 'import json,sys,kubernetes_validate as k\nfor o in json.load(open(sys.argv[1])): k.validate(o, "1.31", strict=True)'
      expect(() => execFileSync('python3', ['-c', program, file], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }), name).not.toThrow()
    }
  })

  it('has a schema for every value that it has a default of, the program’s release, and a configuration that is right', async () => {
    const node = z.looseObject({ properties: z.record(z.string(), z.unknown()).optional(), additionalProperties: z.unknown().optional() })
    const missing = (schema: unknown, value: unknown, path: string): string[] => {
      const { properties, additionalProperties } = node.parse(schema)
      if (properties === undefined || typeof value !== 'object' || value === null || Array.isArray(value)) return []
      return Object.entries(value).flatMap(([name, inner]) => (name in properties ? missing(properties[name], inner, `${path}${name}.`) : additionalProperties === false ? [`${path}${name}`] : []))
    }
    expect(missing(JSON.parse(schemaText), values, '')).toEqual([])
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
    expect(parse(chartFile)).toMatchObject({ version, appVersion: version })
    const path = join(folder, 'default.json')
    writeFileSync(path, JSON.stringify(values['config']))
    const { warnings } = await loadConfig({ path, environment: { PIERRE_PRIVATE_KEY: 'x' } })
    expect(warnings).toEqual([])
  })
})
