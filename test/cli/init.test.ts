import { lstat, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { writeInitFiles } from '../../src/cli/init-files.js'
import { loadConfig } from '../../src/config/load.js'
import { parseJobSpec } from '../../src/job/spec.js'
import { makePlace, type Place } from './run-switchyard.js'

let place: Place
beforeEach(async () => {
  place = await makePlace()
})
afterEach(() => place.remove())

const read = (name: string) => readFile(join(place.folder, name), 'utf8')

it('writes a configuration and a job that are taken as they are, and says so', async () => {
  const run = place.run(['init'])
  expect(await run.ended, run.stderr()).toBe(0)
  expect(run.stdout()).toMatch(/^switchyard\.config\.ts +written\nagent-job\.json +written\n\ntry  switchyard dev .*\n +switchyard enqueue --file agent-job\.json --wait\n$/)
  const { config, path } = await loadConfig({ directory: place.folder, environment: {} })
  expect([config.deployment, config.consumer.secrets, path]).toEqual(['production', ['ANTHROPIC_API_KEY'], join(place.folder, 'switchyard.config.ts')])
  expect(parseJobSpec(JSON.parse(await read('agent-job.json')))).toMatchObject({ repository: 'dev/project', steps: [{ name: 'agent' }, { name: 'check' }] })
  const again = place.run(['init', '--json'])
  expect(await again.ended).toBe(0)
  expect((JSON.parse(again.stdout()) as { written: boolean }[]).map(({ written }) => written)).toEqual([false, false])
})

it('writes over nothing that is there, a link to nowhere included, and beside no configuration of another kind', async () => {
  await writeFile(join(place.folder, 'switchyard.config.json'), '{}')
  await symlink('/nowhere/at/all', join(place.folder, 'agent-job.json'))
  expect((await writeInitFiles(place.folder)).map(({ written, instead }) => [written, instead])).toEqual([
    [false, join(place.folder, 'switchyard.config.json')],
    [false, join(place.folder, 'agent-job.json')],
  ])
  expect(await read('switchyard.config.json')).toBe('{}')
  await expect(lstat(join(place.folder, 'switchyard.config.ts'))).rejects.toThrow('ENOENT')
  const folder = join(place.folder, 'mine')
  await mkdir(folder)
  await writeFile(join(folder, 'switchyard.config.ts'), 'mine')
  expect((await writeInitFiles(folder)).map(({ written }) => written)).toEqual([false, true])
  expect(await read('mine/switchyard.config.ts')).toBe('mine')
})
