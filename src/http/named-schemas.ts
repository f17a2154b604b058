import type { JsonSchema } from './schema-parts.js'

/** Where a part of a component stands, as `JobSpec.steps[]` or `JobSpec.push{}` (its object, where it may be something else too). */
type Place = string

/**
 * The parts of components that have names of their own, so that generated clients call a step `Step` and not `JobSpecStepsItem1`, and have one type for
 * what stands in several places.
 */
const places: Readonly<Record<string, Place>> = {
  Step: 'JobSpec.steps[]{}',
  InjectedSecret: 'JobSpec.secrets[]{}',
  Injection: 'JobSpec.secrets[]{}.inject',
  LfsPatterns: 'JobSpec.lfs{}',
  Push: 'JobSpec.push{}',
  Author: 'JobSpec.push{}.author',
  Promote: 'JobSpec.promote',
  PullRequestInput: 'JobSpec.promote.pullRequest',
  CheckpointOptions: 'JobSpec.checkpoint',
  ProviderChoice: 'JobSpec.providers',
  Resources: 'JobSpec.resources',
  Concurrency: 'JobSpec.concurrency',
  JobWebhook: 'JobSpec.webhooks[]',
  JobError: 'JobResult.error{}',
  Promotion: 'JobResult.promoted{}',
  PullRequest: 'JobResult.pullRequest{}',
  StepResult: 'JobResult.steps[]',
  Attempt: 'JobResult.attempts[]',
  Diff: 'JobResult.diff{}',
  UnsavedPath: 'JobResult.unsaved[]',
  KeptBranch: 'JobResult.kept[]',
  Artifact: 'JobResult.artifacts[]',
  MissedArtifact: 'JobResult.artifactsMissed[]',
  TestSummary: 'JobResult.tests{}',
  FailingTest: 'JobResult.tests{}.failing[]',
  Usage: 'JobResult.usage',
  Cost: 'JobResult.usage.cost',
  LinkedArtifact: 'ArtifactList.artifacts[]',
  ScheduledRun: 'Schedule.last{}',
  SkippedRuns: 'Schedule.skipped{}',
  ProviderLoad: 'ProviderList.providers[]',
  ProviderDrain: 'ProviderList.providers[].drain{}',
  ProviderLimitSet: 'ProviderList.providers[].set{}',
  Tenant: 'TenantList.tenants[]',
  OperatorWord: 'TenantList.tenants[].pause{}',
  TenantShareSet: 'TenantList.tenants[].set{}',
  TenantCost: 'CostList.costs[]',
  AuditEntry: 'AuditList.entries[]',
  Consumer: 'ConsumerList.consumers[]',
  KeyTrouble: 'ConsumerList.consumers[].troubles[]',
  QueueCounts: 'Queue.counts',
  BulkFailure: 'BulkResult.failed[]',
  DeadEvent: 'DeadEventList.events[]',
  EventData: 'Event.data',
}

/** @returns the components with the named parts among them; wherever one of them stands, it is referred to. */
export function withNamedParts(components: Readonly<Record<string, JsonSchema>>): Record<string, JsonSchema> {
  const all: Record<string, JsonSchema> = { ...components }
  for (const [name, place] of Object.entries(places)) all[name] = partAt(components, place)
  const names = new Map(Object.entries(all).map(([name, schema]) => [JSON.stringify(schema), name]))
  const referring = (part: unknown): unknown => {
    const name = typeof part === 'object' && part !== null ? names.get(JSON.stringify(part)) : undefined
    return name === undefined ? inner(part) : { $ref: `#/components/schemas/${name}` }
  }
  const inner = (part: unknown): unknown => {
    if (Array.isArray(part)) return part.map(referring)
    return typeof part === 'object' && part !== null ? Object.fromEntries(Object.entries(part).map(([key, value]) => [key, referring(value)])) : part
  }
  return Object.fromEntries(Object.entries(all).map(([name, schema]) => [name, inner(schema) as JsonSchema]))
}

function partAt(components: Readonly<Record<string, JsonSchema>>, place: Place): JsonSchema {
  const [component = '', ...fields] = place.split('.')
  let part: JsonSchema | undefined = components[component]
  const child = (found: unknown) => {
    part = typeof found === 'object' && found !== null ? (found as JsonSchema) : undefined
  }
  for (const field of fields) {
    const [, name = '', marks = ''] = /^(\w+)([[\]{}]*)$/.exec(field) ?? []
    child((part?.['properties'] as Record<string, unknown> | undefined)?.[name])
    for (const mark of marks.match(/\[\]|\{\}/g) ?? []) child(mark === '[]' ? part?.['items'] : (part?.['anyOf'] as JsonSchema[] | undefined)?.find(({ type }) => type === 'object'))
  }
  if (part?.['type'] !== 'object') throw new Error(`OpenAPI: there is no object at ${place}`)
  return part
}
