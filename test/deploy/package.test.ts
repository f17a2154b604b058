import { existsSync, readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { z } from 'zod'

const { bin, exports, files, scripts } = z.looseObject({
  bin: z.record(z.string(), z.string()),
  exports: z.record(z.string(), z.union([z.string(), z.object({ types: z.string(), default: z.string() })])),
  files: z.array(z.string()),
  scripts: z.record(z.string(), z.string()),
}).parse(JSON.parse(readFileSync('package.json', 'utf8')))

it('a packed checkout holds what it exports: all of it is built from a source, before it is packed', () => {
  expect(scripts['prepack']).toBe('npm run build')
  expect(files).toContain('dist')
  const built = [...Object.values(bin), ...Object.values(exports).flatMap((target) => (typeof target === 'string' ? [] : [target.default]))]
  for (const path of built) expect(existsSync(path.replace(/^(\.\/)?dist\//, 'src/').replace(/\.js$/, '.ts')), path).toBe(true)
  for (const target of Object.values(exports)) if (typeof target !== 'string') expect(target.types).toBe(target.default.replace(/\.js$/, '.d.ts'))
})
