import type * as daytona from '@daytona/sdk'
import { InfrastructureError, errorMessage } from '../../job/errors.js'

/** The SDK's module. Only its types are imported here: the package itself is heavy and optional. */
export type DaytonaSdk = typeof daytona

/**
 * Loads `@daytona/sdk` when the first call needs it. It is an optional peer with close to two hundred packages below it,
 * so a deployment without Daytona neither installs nor loads it.
 * @throws InfrastructureError `invalid` when it is not installed or does not load.
 */
export async function loadDaytonaSdk(
  source: string,
  load: () => Promise<DaytonaSdk> = () => import('@daytona/sdk'),
): Promise<DaytonaSdk> {
  try {
    return await load()
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND'
    throw new InfrastructureError({
      kind: 'invalid',
      source,
      message: missing
        ? `${source}: the package @daytona/sdk is not installed; run "npm install @daytona/sdk@0.216", or remove this provider`
        : `${source}: the package @daytona/sdk does not load (${errorMessage(error)}); install it again`,
      cause: error,
    })
  }
}
