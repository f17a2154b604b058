/** The state that a refused create names: "Snapshot X is inactive". */
export function snapshotState(message: string): string | undefined {
  return /\bsnapshot \S+ is (building|pending|pulling|active|inactive|error|build_failed|removing)\b/i.exec(message)?.[1]?.toLowerCase()
}

/** Whether a snapshot in this state becomes usable by itself. */
export function isBecomingReady(state: string | undefined): boolean {
  return state === 'pending' || state === 'pulling' || state === 'building'
}
