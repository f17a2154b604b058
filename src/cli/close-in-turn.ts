/**
 * Closes what was opened, last first, each whatever the ones before came to.
 * @throws the first failure, once all were tried; AggregateError for several.
 */
export async function closeInTurn(closers: (() => Promise<void>)[]): Promise<void> {
  const failures: unknown[] = []
  for (const close of closers.splice(0).reverse()) await close().catch((error: unknown) => failures.push(error))
  if (failures.length === 1) throw failures[0]
  if (failures.length > 1) throw new AggregateError(failures, `could not clean up: ${failures.map(String).join('; ')}`)
}
