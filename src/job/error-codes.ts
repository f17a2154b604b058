import type { ErrorOwner } from './error-owner.js'
import type { InfrastructureErrorKind, JobErrorKind } from './error-kinds.js'

/**
 * Every error that users meet, by its code: stable from release to release, while messages may change. docs/errors.md lists each
 * with its cause and its mend.
 */
export const errorCodes = [
  // Of a call to Switchyard's own interface.
  'SWY_INPUT_INVALID',
  'SWY_IDEMPOTENCY_CONFLICT',
  'SWY_REDIS_UNAVAILABLE',
  'SWY_QUEUE_CLOSED',
  'SWY_JOB_UNKNOWN',
  'SWY_SCHEDULE_UNKNOWN',
  'SWY_NAME_UNKNOWN',
  'SWY_FENCE_LOST',
  'SWY_NEWER_RELEASE',
  'SWY_OLDER_RELEASE',
  'SWY_RESULT_TIMEOUT',
  'SWY_CHECKPOINT_GONE',
  'SWY_KEY_TAKEN',
  'SWY_EMBEDDED_REDIS',
  'SWY_WEBHOOK_FAILED',
  'SWY_UNSPECIFIED',
  // Of a request to the HTTP API, besides.
  'SWY_HTTP_MALFORMED',
  'SWY_HTTP_UNAUTHENTICATED',
  'SWY_HTTP_FORBIDDEN',
  'SWY_HTTP_NOT_FOUND',
  'SWY_HTTP_METHOD',
  'SWY_HTTP_BODY_SIZE',
  'SWY_HTTP_CONTENT_TYPE',
  'SWY_HTTP_RATE_LIMITED',
  'SWY_IDEMPOTENCY_IN_FLIGHT',
  'SWY_HTTP_UNAVAILABLE',
  // Of a job's own course.
  'SWY_STEP_FAILED',
  'SWY_STEP_TIMEOUT',
  'SWY_JOB_TIMEOUT',
  'SWY_CANCELLED',
  'SWY_SUPERSEDED',
  'SWY_PROMOTION_CONFLICT',
  'SWY_INTERNAL',
  // The job's fault.
  'SWY_JOB_INVALID',
  'SWY_JOB_UNRUNNABLE',
  'SWY_PUSH_REFUSED',
  'SWY_RUNNER_ANSWER',
  'SWY_SANDBOX_BROKEN',
  'SWY_BUDGET_TOO_SMALL',
  'SWY_BUDGET_NO_PROGRESS',
  // Its sandbox's.
  'SWY_SANDBOX_LOST',
  'SWY_SANDBOX_REFUSED',
  // Its provider's.
  'SWY_PROVIDER_CAPACITY',
  'SWY_PROVIDER_RATE_LIMITED',
  'SWY_PROVIDER_DOWN',
  'SWY_PROVIDER_REFUSED',
  'SWY_CREATE_GIVEN_UP',
  'SWY_DATA_PLANE_UNREACHABLE',
  // The git host's.
  'SWY_GIT_REPOSITORY_REFUSED',
  'SWY_GIT_HOST_RATE_LIMITED',
  'SWY_GIT_HOST_DOWN',
  'SWY_GIT_HOST_REFUSED',
  // The consumer's or the deployment's.
  'SWY_CONSUMER_KEY_REFUSED',
  'SWY_CONSUMER_SECRET_MISSING',
  'SWY_CONSUMER_CONFIGURATION',
  'SWY_DEPLOYMENT',
] as const
export type ErrorCode = (typeof errorCodes)[number]

/** The code of an infrastructure error that has no more telling one. */
export function codeOf(kind: InfrastructureErrorKind, owner: ErrorOwner): ErrorCode {
  if (kind === 'sandbox-lost') return 'SWY_SANDBOX_LOST'
  switch (owner) {
    case 'job':
      return 'SWY_JOB_INVALID'
    case 'sandbox':
      return kind === 'auth' ? 'SWY_SANDBOX_REFUSED' : 'SWY_SANDBOX_BROKEN'
    case 'provider-create':
      return providerCodes[kind]
    case 'provider-data-plane':
      return kind === 'rate-limited' ? 'SWY_PROVIDER_RATE_LIMITED' : 'SWY_DATA_PLANE_UNREACHABLE'
    case 'git-repository':
      return 'SWY_GIT_REPOSITORY_REFUSED'
    case 'git-host':
      return gitHostCodes[kind] ?? 'SWY_GIT_HOST_DOWN'
    case 'consumer-keys':
      return kind === 'auth' ? 'SWY_CONSUMER_KEY_REFUSED' : 'SWY_CONSUMER_SECRET_MISSING'
    case 'consumer-configuration':
      return 'SWY_CONSUMER_CONFIGURATION'
    case 'deployment':
      return 'SWY_DEPLOYMENT'
  }
}

const providerCodes: Readonly<Record<Exclude<InfrastructureErrorKind, 'sandbox-lost'>, ErrorCode>> = {
  capacity: 'SWY_PROVIDER_CAPACITY',
  'rate-limited': 'SWY_PROVIDER_RATE_LIMITED',
  transient: 'SWY_PROVIDER_DOWN',
  timeout: 'SWY_PROVIDER_DOWN',
  'provider-down': 'SWY_PROVIDER_DOWN',
  auth: 'SWY_PROVIDER_REFUSED',
  invalid: 'SWY_PROVIDER_REFUSED',
}

const gitHostCodes: Partial<Readonly<Record<InfrastructureErrorKind, ErrorCode>>> = {
  'rate-limited': 'SWY_GIT_HOST_RATE_LIMITED',
  auth: 'SWY_GIT_HOST_REFUSED',
  invalid: 'SWY_GIT_HOST_REFUSED',
}

/** The codes of what ends a job besides its infrastructure. */
export const courseCodes = {
  'step-failed': 'SWY_STEP_FAILED',
  conflict: 'SWY_PROMOTION_CONFLICT',
  cancelled: 'SWY_CANCELLED',
  internal: 'SWY_INTERNAL',
} as const satisfies Record<Exclude<JobErrorKind, InfrastructureErrorKind>, ErrorCode>
