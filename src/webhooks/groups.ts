/** The groups of readers by which webhooks are delivered. */

const ofEndpoint = 'webhook:'
const ofJobs = 'webhook-of-jobs:'

/** Of a deployment's receiver. */
export function endpointGroup(name: string): string {
  return `${ofEndpoint}${name}`
}

/** Of the n-th webhook, from 0, of every job that has so many. */
export function jobGroup(n: number): string {
  return `${ofJobs}${n}`
}

/** Whether a group of readers is a deployment's receiver's. */
export function isEndpointGroup(group: string): boolean {
  return group.startsWith(ofEndpoint)
}

/** Whether a group of readers delivers webhooks. */
export function isWebhookGroup(group: string): boolean {
  return isEndpointGroup(group) || group.startsWith(ofJobs)
}
