import { harmlessLine } from '../../job/harmless-text.js'
import { createRedis, eventGroups, Keys, type RedisConfig, whenReady } from '../../store/index.js'
import type { WebhookSettings } from '../../webhooks/index.js'
import type { Checklist } from './checklist.js'

/** The deployment's receivers: whether one is sent nothing more, and what was given up. */
export async function checkWebhooks(list: Checklist, config: { readonly redis: RedisConfig; readonly prefix: string; readonly endpoints: WebhookSettings['endpoints'] }, timeoutMs: number): Promise<void> {
  const redis = createRedis(config.redis, 'producer')
  try {
    await list.run('receivers', async () => {
      await whenReady(redis, config.redis, timeoutMs)
      const states = await eventGroups(redis, new Keys(config.prefix))
      const own = config.endpoints.map(({ name }) => ({ name, state: states.find(({ group }) => group === `webhook:${name}`) }))
      const warnings = own.flatMap(({ name, state }) => [
        ...(state === undefined ? [`${name} is read by no process yet; start a consumer, or startWebhooks`] : []),
        ...(state?.stopped == null ? [] : [`${name} is stopped: ${harmlessLine(state.stopped.why)}; mend the receiver, then "switchyard events resume --group webhook:${name}"`]),
        ...(state === undefined || state.deadLetters === 0 ? [] : [`${name} has not taken ${state.deadLetters} of its events; "switchyard events dead --group webhook:${name}" says why`]),
      ])
      return { value: true, detail: config.endpoints.map(({ name }) => name).join(', '), warnings }
    })
  } finally {
    redis.disconnect()
  }
}
