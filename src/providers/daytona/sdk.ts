import type * as daytona from '@daytona/sdk'
import { loadOptionalPackage } from '../optional-package.js'

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
  return loadOptionalPackage(source, '@daytona/sdk', '0.216', load)
}
