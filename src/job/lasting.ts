import { z } from 'zod'

/**
 * The schema of an object that outlives releases. In a rolling deploy an older process reads what a newer one wrote, and may
 * write it back: fields that this release does not know are kept. The type names the known ones only, so that a misspelt
 * field is still found. A field that a later release adds needs a default, since older processes don't write it.
 */
export function lastingObject<Shape extends z.core.$ZodShape>(shape: Shape): z.ZodObject<Shape> {
  return z.looseObject(shape)
}
