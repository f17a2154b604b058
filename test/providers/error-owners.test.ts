import { AuthenticationError, InvalidArgumentError, RateLimitError, SandboxError, SandboxNotFoundError, ServiceBusyError, TemplateError } from 'e2b'
import { describe, expect, it } from 'vitest'
import type { ErrorOwner, InfrastructureError, InfrastructureErrorKind } from '../../src/job/errors.js'
import { attributed } from '../../src/job/errors.js'
import * as daytona from '../../src/providers/daytona/classify.js'
import * as docker from '../../src/providers/docker/classify.js'
import { EngineError } from '../../src/providers/docker/engine.js'
import * as e2b from '../../src/providers/e2b/classify.js'
import * as modal from '../../src/providers/modal/classify.js'

/** `job` and `consumer-configuration`: of whoever named the image, the template or the snapshot. */
type Row = [call: string, raw: unknown, kind: InfrastructureErrorKind, owner: ErrorOwner | 'who named it', says: string]

const inside = new Set(['exec', 'inject'])
/** As supervision sees it: an error that says nothing of its owner is attributed by the call that it came out of. */
const ownerOf = (error: InfrastructureError, call: string) => attributed(error, inside.has(call) ? 'exec' : 'create').owner

function holds(rows: readonly Row[], classify: (raw: unknown, call: string, named: 'job' | 'consumer-configuration') => InfrastructureError): void {
  it.each(rows)('%s: %s is %s of %s', (call, raw, kind, owner, says) => {
    for (const named of ['job', 'consumer-configuration'] as const) {
      const error = classify(raw, call, named)
      expect([error.kind, ownerOf(error, call)]).toEqual([kind, owner === 'who named it' ? named : owner])
      expect(error.message).toContain(says)
    }
  })
}

const answer = (status: number, message: string): SandboxError => Object.assign(new SandboxError(`${status}: ${message}`), { statusCode: status })

describe('E2B’s answers say whose fault they are', () => {
  holds(
    [
      ['create', new AuthenticationError('Unauthorized, please check your credentials.'), 'auth', 'consumer-keys', 'E2B_API_KEY'],
      ['create', answer(403, 'team is banned'), 'auth', 'consumer-keys', 'dashboard'],
      ['create', answer(403, "you don't have access to template 'x'"), 'invalid', 'who named it', 'may not use the template'],
      ['create', answer(404, "template 'x' not found"), 'invalid', 'who named it', 'does not know the template'],
      ['create', new TemplateError('You need to update the template to use the new SDK.'), 'invalid', 'who named it', 'too old'],
      ['create', answer(400, "template 'x' is not available in the requested cluster"), 'invalid', 'who named it', 'refused the template'],
      ['create', new ServiceBusyError("Failed to place sandbox: no compatible node for this template's requirements"), 'invalid', 'who named it', 'waiting does not help'],
      ['create', answer(500, "Failed to place sandbox: sandbox files for 'i1' not found"), 'invalid', 'who named it', 'no repetition helps'],
      ['create', answer(400, 'Timeout cannot be greater than 1 hours'), 'invalid', 'consumer-configuration', 'set maxLifetime'],
      ['create', answer(400, 'invalid allowed address exa mple'), 'invalid', 'job', 'refused the request'],
      ['network', answer(400, 'Network transform rules are not available for your team.'), 'invalid', 'consumer-configuration', 'injected'],
      ['create', new RateLimitError('you have reached the maximum number of concurrent E2B sandboxes (20)'), 'capacity', 'provider-create', 'as its plan allows'],
      ['create', new RateLimitError('Rate limit exceeded'), 'rate-limited', 'provider-create', 'too many calls'],
      ['create', answer(504, 'Failed to place sandbox: placement timed out, please retry'), 'transient', 'provider-create', 'in time'],
      ['connect', new AuthenticationError('Unauthorized, please check your credentials.'), 'auth', 'consumer-keys', 'E2B_API_KEY'],
      ['check', answer(400, 'limit must be between 1 and 100'), 'invalid', 'consumer-configuration', 'refused'],
      ['exec', new AuthenticationError('[unauthenticated] unauthorized access'), 'auth', 'sandbox', 'access token'],
      ['exec', new AuthenticationError("[unauthenticated] invalid username: 'agent'"), 'invalid', 'consumer-configuration', 'no user "agent"'],
      ['exec', new InvalidArgumentError("[invalid_argument] cwd '/nope' does not exist"), 'invalid', 'job', 'working directory'],
      ['exec', new SandboxNotFoundError('Sandbox is probably not running anymore'), 'transient', 'provider-data-plane', 'did not answer'],
      ['exec', answer(400, 'Max instance length exceeded'), 'transient', 'provider-data-plane', 'lifetime is over'],
    ],
    (raw, call, named) => e2b.classify(raw, { source: 'e2b', what: call as e2b.ClassifyContext['what'], apiKeyEnv: 'E2B_API_KEY', user: 'agent', template: named, secrets: [] }),
  )

  it('a user that commands ran as before was removed in the sandbox', () => {
    const error = e2b.classify(new AuthenticationError("[unauthenticated] invalid username: 'agent'"), { source: 'e2b', what: 'exec', apiKeyEnv: 'K', user: 'agent', ranBefore: true, secrets: [] })
    expect(error).toMatchObject({ kind: 'invalid', owner: 'sandbox', message: expect.stringContaining('what removed it') as string })
  })
})

const said = (statusCode: number | undefined, message: string, name = 'DaytonaError') => Object.assign(new Error(message), { name, ...(statusCode === undefined ? {} : { statusCode, headers: { 'content-type': 'application/json; charset=utf-8' } }) })

describe('Daytona’s answers say whose fault they are', () => {
  holds(
    [
      ['create', said(401, 'This API key has expired'), 'auth', 'consumer-keys', 'DAYTONA_API_KEY'],
      ['create', said(403, 'Organization is suspended: unpaid'), 'auth', 'consumer-keys', 'suspended'],
      ['create', said(403, 'Region us is not available to the organization for class container'), 'invalid', 'consumer-configuration', 'set target'],
      ['create', said(400, 'This organization does not have a default region. Please open the Daytona Dashboard to set a default region.'), 'invalid', 'consumer-configuration', 'set target'],
      ['create', said(400, 'Snapshot x not found. Did you add it through the Daytona Dashboard?'), 'invalid', 'who named it', 'snapshot'],
      ['create', said(400, 'Snapshot x is inactive'), 'invalid', 'who named it', 'activate'],
      ['create', said(400, 'Snapshot x is pulling'), 'transient', 'provider-create', 'not ready yet'],
      ['create', said(400, 'Total CPU limit exceeded. Maximum allowed: 10.'), 'capacity', 'provider-create', 'Total CPU'],
      ['create', said(400, 'Total CPU limit exceeded. Maximum allowed: 1.'), 'invalid', 'job', 'asks for 2'],
      ['create', said(400, 'Total CPU limit exceeded. Maximum allowed: 0.'), 'invalid', 'consumer-configuration', 'none of it'],
      ['create', said(400, 'CPU request 8 exceeds maximum allowed per sandbox (4).'), 'invalid', 'job', 'resources'],
      ['create', said(400, 'Invalid domain: "x". Must be a valid domain name'), 'invalid', 'job', 'Invalid domain'],
      ['create', said(429, 'ThrottlerException: Too Many Requests'), 'rate-limited', 'provider-create', 'Too Many'],
      ['create', said(503, 'Temporary authentication service error'), 'provider-down', 'provider-create', '503'],
      ['check', said(404, 'Snapshot with ID or name x not found'), 'invalid', 'consumer-configuration', 'names of the image'],
      ['exec', said(401, 'unauthorized: authentication failed'), 'auth', 'sandbox', '401'],
      ['exec', said(413, 'too large'), 'invalid', 'job', '413'],
      ['exec', said(502, 'runner is unreachable'), 'transient', 'provider-data-plane', '502'],
    ],
    (raw, call, named) => daytona.classify(raw, { source: 'daytona', call: call as daytona.DaytonaCall, apiKeyEnv: 'DAYTONA_API_KEY', image: call === 'check' ? undefined : named, resources: { cpu: 2 } }),
  )
})

const grpc = (code: number, message: string) => Object.assign(new Error(message), { name: 'ClientError', code })
const named = (name: string, message: string) => Object.assign(new Error(message), { name })
const build = (reason: string) => new Error(`Image build for im-1 failed with the exception:\n${reason}`)

describe('Modal’s answers say whose fault they are', () => {
  holds(
    [
      ['create', grpc(16, 'Token validation failed'), 'auth', 'consumer-keys', 'Modal token'],
      ['create', grpc(7, 'permission denied'), 'auth', 'consumer-keys', 'Modal token'],
      ['create', named('NotFoundError', "App 'x' not found"), 'invalid', 'consumer-configuration', 'App'],
      ['create', grpc(5, "Environment 'x' not found"), 'invalid', 'consumer-configuration', 'Environment'],
      ['create', grpc(5, 'Image im-1 not found'), 'invalid', 'who named it', 'Image'],
      ['create', build('manifest unknown: acme/agent:1'), 'invalid', 'who named it', 'manifest unknown'],
      ['create', build('toomanyrequests: You have reached your pull rate limit'), 'transient', 'sandbox', 'toomanyrequests'],
      ['create', build('received unexpected HTTP status: 503 Service Unavailable'), 'transient', 'sandbox', '503'],
      ['create', build('net/http: TLS handshake timeout'), 'transient', 'sandbox', 'TLS'],
      ['create', build('manifest for acme/timeout:503 not found: manifest unknown'), 'invalid', 'who named it', 'manifest'],
      ['create', named('InvalidError', 'cpu must be a positive number'), 'invalid', 'job', 'cpu'],
      ['create', grpc(3, 'CPU request of 99 cores exceeds the maximum of 64'), 'invalid', 'job', '99'],
      ['create', grpc(8, 'Workspace has reached its limit of 100 concurrent sandboxes'), 'capacity', 'provider-create', '100'],
      ['create', grpc(8, 'Sandbox creation rate limit of 5/s exceeded'), 'rate-limited', 'provider-create', 'rate'],
      ['create', grpc(14, 'unavailable'), 'provider-down', 'provider-create', 'unavailable'],
      ['check', grpc(5, "Environment 'x' not found"), 'invalid', 'consumer-configuration', 'Environment'],
      ['inject', grpc(9, 'the sandbox was created without an outbound policy'), 'invalid', 'consumer-configuration', 'injectHeaders'],
      ['exec', grpc(16, 'invalid token'), 'auth', 'sandbox', 'invalid token'],
      ['exec', grpc(3, 'working directory /x does not exist'), 'invalid', 'job', 'working directory'],
      ['exec', grpc(14, 'unavailable'), 'transient', 'provider-data-plane', 'unavailable'],
    ],
    (raw, call, owner) => modal.classify(raw, { source: 'modal', what: 'a call', during: call as modal.ClassifyContext['during'], image: { name: 'acme/timeout:503', owner } }),
  )
})

describe('an engine’s answers say whose fault they are', () => {
  holds(
    [
      ['create', new EngineError(404, 'No such image: x:latest'), 'invalid', 'who named it', 'pull or build'],
      ['create', new EngineError(400, 'invalid reference'), 'invalid', 'job', 'refused'],
      ['create', new EngineError(500, 'write: no space left on device'), 'capacity', 'provider-create', 'no room'],
      ['create', new EngineError(403, 'authorization denied by plugin'), 'auth', 'consumer-keys', 'plug-in'],
      ['create', Object.assign(new Error('x'), { code: 'EACCES' }), 'auth', 'consumer-keys', 'may not open'],
      ['get', Object.assign(new Error('x'), { code: 'ECONNREFUSED' }), 'provider-down', 'provider-create', 'nothing listens'],
    ],
    (raw, call, owner) => docker.classify(raw, { source: 'docker', what: call as docker.ClassifyContext['what'], socketPath: '/var/run/docker.sock', image: owner }),
  )
})
