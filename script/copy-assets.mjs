// tsc copies only what it compiles: the Lua and shell files that src/ reads at run time, and the programs that it starts, go along here.
// Usage: copy-assets.mjs [FROM TO]
import { cp } from 'node:fs/promises'
import { extname } from 'node:path'
import { statSync } from 'node:fs'

const [from = 'src', to = 'dist'] = process.argv.slice(2)
await cp(from, to, {
  recursive: true,
  filter: (source) => statSync(source).isDirectory() || ['.lua', '.sh', '.mjs'].includes(extname(source)),
})
