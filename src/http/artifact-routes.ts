import { z } from '@hono/zod-openapi'
import { InvalidInputError } from '../job/errors.js'
import { type ApiApp, type ApiContext, guard, json, problems, route } from './context.js'
import { visibleJob } from './job-routes.js'

const longestLinkSeconds = 7 * 24 * 60 * 60

/** What a job left, and links that open it for a while. They are made when they are asked for, and stored nowhere. */
export function addArtifactRoutes(app: ApiApp, api: ApiContext): void {
  app.openapi(
    route({
      method: 'get', path: '/v1/jobs/{jobId}/artifacts', operationId: 'listArtifacts', summary: 'The artifacts of a job that has ended, with links that open them for a while', tags: ['jobs'],
      middleware: [guard(api, 'read')],
      request: {
        params: z.object({ jobId: z.string().min(1).max(200) }),
        query: z.strictObject({
          path: z.string().min(1, 'is empty; leave it out').max(1_000).optional().describe('Only the artifact of this path.'),
          linkSeconds: z.coerce.number({ error: 'must be a whole number of seconds' }).int('must be a whole number of seconds').min(1, 'must be at least 1').max(longestLinkSeconds, `must be at most ${longestLinkSeconds} (7 days)`).optional()
            .describe('Make a link to each that is good for so long. Left out: no links.'),
        }),
      },
      responses: { 200: { description: 'In the order of their paths. A job that has not ended has none yet.', content: json('ArtifactList') }, ...problems(404) },
    }),
    async (context) => {
      const { path, linkSeconds } = context.req.valid('query')
      const { result } = await visibleJob(api, context.var.caller, context.req.valid('param').jobId)
      if (linkSeconds !== undefined && api.artifacts === undefined) throw new InvalidInputError('linkSeconds: no artifact store is configured where the API is served; set "artifacts" there as the consumers have it')
      const wanted = (result?.artifacts ?? []).filter((artifact) => path === undefined || artifact.path === path)
      const artifacts = []
      for (const artifact of wanted) {
        // A file of the consumers' opens for nobody else.
        const opens = linkSeconds !== undefined && !artifact.where.startsWith('file:')
        artifacts.push({ ...artifact, link: opens ? ((await api.artifacts?.link(artifact.where, { expiresInSeconds: linkSeconds })) ?? null) : null })
      }
      return context.json({ artifacts, artifactsMissed: result?.artifactsMissed ?? [], artifactsMissedMore: result?.artifactsMissedMore ?? 0, tests: result?.tests ?? null }, 200)
    },
  )
}
