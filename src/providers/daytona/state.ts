import type { Sandbox } from '@daytona/sdk'
import type { SandboxInfo } from '../provider.js'

/** The SDK puts this label on every sandbox; it is no tag of ours. */
const languageLabel = 'code-toolbox-language'

const goingOrGone = ['destroying', 'destroyed']
const failed = ['error', 'build_failed']
/** Their processes are gone with their memory, and `autoDeleteInterval: 0` deletes them. A paused one is never ours. */
const stopped = ['stopping', 'stopped', 'archiving', 'archived', 'pausing', 'paused']

type WithState = Pick<Sandbox, 'state'>

/** Deleted or being deleted. */
export function isGoingOrGone(sandbox: WithState): boolean {
  return isIn(sandbox, goingOrGone)
}

/** It never started, or broke: its processes are lost, but it must still be deleted. */
export function hasFailed(sandbox: WithState): boolean {
  return isIn(sandbox, failed)
}

/** Whatever ran in it runs no more. */
export function hasEnded(sandbox: WithState): boolean {
  return isIn(sandbox, goingOrGone) || isIn(sandbox, failed) || isIn(sandbox, stopped)
}

export function sandboxInfo(sandbox: Sandbox): SandboxInfo {
  const { [languageLabel]: _language, ...tags } = sandbox.labels
  return {
    id: sandbox.id,
    name: sandbox.name,
    tags,
    createdAtMs: milliseconds(sandbox.createdAt),
    expiresAtMs: milliseconds(sandbox.autoDestroyAt),
  }
}

function milliseconds(date: string | undefined): number | undefined {
  const ms = date === undefined ? Number.NaN : Date.parse(date)
  return Number.isNaN(ms) ? undefined : ms
}

function isIn(sandbox: WithState, states: readonly string[]): boolean {
  return sandbox.state !== undefined && states.includes(sandbox.state)
}
