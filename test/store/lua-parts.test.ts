import { readdir, readFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { useRedis } from './fixture.js'

const redis = useRedis()

it('what stands behind `-- lazily` is declared when it is first asked for, in the order of its parts', async () => {
  const rules = await readFile(new URL('../../src/store/lua/ledger.lua', import.meta.url), 'utf8')
  const client = redis.connect()
  const script = `
local offered, declared, seen = { known = false }, {}, {}
for i, name in ipairs({ 'one', 'two', 'three' }) do
  lazily(offered, function()
    declared[#declared + 1] = name
    offered[name] = function() return i end
  end)
end
local function note(found) seen[#seen + 1] = { found or 'nothing', table.concat(declared, ' ') } end
note(offered.known)
note(offered.one())
note(offered.one())
note(offered.two())
note(offered.four)
note(offered.three())
note(offered.four)
return cjson.encode(seen)`
  client.defineCommand('parts', { lua: `${rules}\n${script}` })
  const parts = (...args: string[]) => (client as unknown as { parts(...args: (string | number)[]): Promise<string> }).parts(3, ...args)
  expect(JSON.parse(await parts(redis.keys.ledger(), redis.keys.ready(), redis.keys.idle(), redis.keys.inbox(''), '1'))).toEqual([
    ['nothing', ''],
    [1, 'one'],
    [1, 'one'],
    [2, 'one two'],
    ['nothing', 'one two three'],
    [3, 'one two three'],
    ['nothing', 'one two three'],
  ])
})

it('no part of a file is closed before its functions are', async () => {
  const folder = new URL('../../src/store/lua/', import.meta.url)
  const client = redis.connect()
  for (const file of await readdir(folder)) {
    const [, ...parts] = (await readFile(new URL(file, folder), 'utf8')).split(/^-- lazily (\w+).*\n/m)
    // A part that is Lua by itself neither begins within a function nor leaves one open.
    for (let part = 1; part < parts.length; part += 2) await expect(client.script('LOAD', `local function part()\n${parts[part]!}end`), file).resolves.toEqual(expect.any(String))
  }
})
