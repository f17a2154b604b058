import { expect, it } from 'vitest'
import { useRedis } from '../store/fixture.js'
import { serve } from './fixture.js'

const redis = useRedis()

it('gives its metrics to a key that may read everybody’s, and to no other', async () => {
  const { url, newKey, call } = await serve(redis, { metrics: () => Promise.resolve({ contentType: 'text/plain; version=0.0.4', text: 'x 1\n' }) })
  const scrape = async (key: string) => await fetch(`${url}metrics`, { headers: { authorization: `Bearer ${key}` } })
  const answer = await scrape(await newKey('read'))
  expect([answer.status, answer.headers.get('content-type'), await answer.text()]).toEqual([200, 'text/plain; version=0.0.4', 'x 1\n'])
  expect((await scrape(await newKey('write', ['acme']))).status).toBe(403)
  expect((await scrape('sy_none')).status).toBe(401)
  expect((await call('POST', '/metrics', { key: await newKey('read') })).status).toBe(405)
})

it('has no metrics where nobody gave it any', async () => {
  const { call, newKey } = await serve(redis)
  expect((await call('GET', '/metrics', { key: await newKey('read') })).status).toBe(404)
})
