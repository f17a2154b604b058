/**
 * Whether tests go through the whole of a kind, as `npm run test:long` does. CI takes what spans the kind: a row for each path through it. What is left out is
 * named beside it, by `it.runIf(whole)` or as what `spanning` does not name.
 */
export const whole = process.env['SWITCHYARD_TESTS'] === 'long'

/** The rows of a table that CI goes through: those that are named; all of them where the whole is asked for. */
export function spanning<Row extends readonly [string, ...unknown[]]>(rows: readonly Row[], ...names: readonly string[]): Row[] {
  const chosen = rows.filter(([name]) => names.includes(name))
  if (chosen.length !== names.length) throw new Error(`of ${names.map((name) => `"${name}"`).join(', ')} only ${chosen.length} are rows of the table`)
  return whole ? [...rows] : chosen
}

/** How many made-up inputs are tried, the same ones each time: a third of them in CI. */
export const tries = (count: number): number => (whole ? count : Math.ceil(count / 3))
