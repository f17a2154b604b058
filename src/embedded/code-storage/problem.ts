import type { ContentfulStatusCode } from 'hono/utils/http-status'

/** Ends an API call with a status and `{error, …}`. */
export class ApiProblem extends Error {
  override readonly name = 'ApiProblem'
  constructor(
    readonly status: ContentfulStatusCode,
    message: string,
    /** More fields of the answer's body. */
    readonly fields: Readonly<Record<string, unknown>> = {},
  ) {
    super(message)
  }
}
