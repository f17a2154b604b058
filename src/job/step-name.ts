/** A step's name where it was given none: by its place among the job's steps, or its setup steps. @param index from 0. */
export function stepName(index: number, kind: 'step' | 'setup' = 'step'): string {
  return `${kind} ${index + 1}`
}
