import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { exportedNames, importInstalled, installPacked, type Installed } from './packed.js'

let installed: Installed
beforeAll(async () => {
  installed = await installPacked()
}, 300_000)
afterAll(() => installed.remove())

it('a packed checkout was built, and every export is imported with nothing that is for development beside it', { timeout: 120_000 }, async () => {
  for (const name of await exportedNames()) expect((await importInstalled(installed.folder, name)).names.length, name).toBeGreaterThan(0)
  expect((await importInstalled(installed.folder, 'switchyard/git')).names).toContain('CodeStorageHost')
  expect((await importInstalled(installed.folder, 'switchyard/monitor')).names).toContain('createMonitor')
})

it('its program runs', () => {
  const program = join(installed.folder, 'node_modules/switchyard/dist/cli/main.js')
  expect(execFileSync(process.execPath, [program, '--version'], { cwd: installed.folder, encoding: 'utf8' })).toMatch(/^\d+\.\d+\.\d+\n$/)
})

it('holds what runs, and nothing that only a checkout needs', () => {
  expect(installed.files.filter((path) => /\.(lua|sh|mjs)$/.test(path)).length).toBeGreaterThan(50)
  expect(installed.files.filter((path) => /tsbuildinfo|\.test\.|^(test|bench|src)\//.test(path))).toEqual([])
})
