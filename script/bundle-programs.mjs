// Bundles programs that tests start, with the packages that they load, over what script/compile-tests has compiled file by file: they then start in half of the
// processor time. What the package exports goes along, so that a user's module has the same classes as the program that loads it.
// Usage: bundle-programs.mjs TO PROGRAMS
import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build } from 'esbuild'

const [to, ...programs] = process.argv.slice(2)
const top = resolve('.')
// A folder may have any name.
const literally = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)
const { exports: exported, dependencies } = JSON.parse(await readFile('package.json', 'utf8'))
const entries = Object.values(exported).flatMap(({ default: file }) => (file === undefined ? [] : [file.replace('./dist/', 'src/').replace(/js$/, 'ts')]))
// They look for files of their own beside them.
const left = /^(@bull-board\/.*|jiti|msgpackr.*|undici)$/

await build({
  entryPoints: [...entries, ...programs],
  outdir: to,
  outbase: '.',
  chunkNames: 'chunks/[hash]',
  bundle: true,
  minifyWhitespace: true,
  minifySyntax: true,
  splitting: true,
  allowOverwrite: true,
  format: 'esm',
  platform: 'node',
  target: 'es2023',
  logLevel: 'warning',
  banner: { js: `import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url), moduleUrl = (path) => new URL(path, ${JSON.stringify(pathToFileURL(`${to}/`))}).href;` },
  plugins: [
    {
      name: 'as if each module were a file',
      setup({ onLoad, onResolve }) {
        // Each finds its assets where its own file would be.
        onLoad({ filter: new RegExp(`^${literally(top)}/(src|test)/.*\\.tsx?$`) }, async ({ path }) => {
          const compiled = path.slice(top.length + 1).replace(/\.tsx?$/, '.js')
          return { contents: (await readFile(path, 'utf8')).replaceAll('import.meta.url', `moduleUrl(${JSON.stringify(compiled)})`), loader: path.endsWith('x') ? 'tsx' : 'ts' }
        })
        // What zod says in other languages is a third of what each program would read as it starts, and nobody asks for it.
        onLoad({ filter: /\/zod\/v4\/locales\/index\.js$/ }, () => ({ contents: "export { default as en } from './en.js'", loader: 'js' }))
        // A CommonJS package that looks beside itself.
        onLoad({ filter: /\/node_modules\/.*\.c?js$/ }, async ({ path }) => {
          const contents = await readFile(path, 'utf8')
          return /\b__(dir|file)name\b/.test(contents) ? { contents: `var __filename = ${JSON.stringify(path)}, __dirname = ${JSON.stringify(dirname(path))};${contents}` } : undefined
        })
        onResolve({ filter: /^[^./]/ }, ({ path, importer, kind }) => {
          if (kind === 'entry-point') return
          const name = path.split('/', path.startsWith('@') ? 2 : 1).join('/')
          // A CommonJS package that import() asks for would be left with its default export alone. The SDKs are not ours to depend on.
          const external = kind === 'dynamic-import' || left.test(name) || (!importer.includes('/node_modules/') && dependencies[name] === undefined)
          return external ? { external } : undefined
        })
      },
    },
  ],
})
