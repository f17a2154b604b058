import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/**
 * The bill of materials of what is installed with Switchyard: node script/sbom.mjs [cyclonedx|spdx] >sbom.json
 *
 * npm makes it from package-lock.json alone, so no network and no node_modules is needed. What is for development is taken out here: npm's own
 * `--omit dev` leaves out packages too that are needed for both. So is what differs from one call to the next (its number, the time): the same lock
 * file gives the same bytes, which can be compared and signed.
 */
const format = process.argv[2] ?? 'cyclonedx'
if (!['cyclonedx', 'spdx'].includes(format)) {
  process.stderr.write(`sbom: "${format}" is not a format; give cyclonedx or spdx\n`)
  process.exit(2)
}
const top = new URL('..', import.meta.url)
const read = (name) => JSON.parse(readFileSync(new URL(name, top), 'utf8'))
const { name, version, devDependencies } = read('package.json')
const installed = new Set([`${name}@${version}`])
for (const [path, { version: of, dev }] of Object.entries(read('package-lock.json').packages)) {
  const called = path.replace(/^.*node_modules\//, '')
  if (dev !== true && !(called in devDependencies)) installed.add(`${called}@${of}`)
}

const made = execFileSync('npm', ['sbom', '--package-lock-only', '--sbom-format', format], { cwd: top, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024, stdio: ['ignore', 'pipe', 'inherit'] })
const bill = JSON.parse(made)
if (format === 'cyclonedx') {
  delete bill.serialNumber
  delete bill.metadata.timestamp
  // npm calls it by its folder.
  bill.metadata.component.name = name
  bill.components = bill.components.filter((one) => installed.has(`${one.name}@${one.version}`))
  const refs = new Set([bill.metadata.component['bom-ref'], ...bill.components.map((one) => one['bom-ref'])])
  bill.dependencies = bill.dependencies.filter(({ ref }) => refs.has(ref)).map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((each) => refs.has(each)) }))
} else {
  bill.creationInfo.created = '1970-01-01T00:00:00Z'
  bill.name = bill.name.replace(/^[^@]+(?=@)/, name)
  bill.documentNamespace = bill.documentNamespace.replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/, 'from-package-lock')
  bill.packages = bill.packages.filter((one) => installed.has(`${one.name}@${one.versionInfo}`))
  const ids = new Set([bill.SPDXID, ...bill.packages.map(({ SPDXID }) => SPDXID)])
  bill.relationships = bill.relationships.filter(({ spdxElementId, relatedSpdxElement }) => ids.has(spdxElementId) && ids.has(relatedSpdxElement))
}
process.stdout.write(`${JSON.stringify(bill, null, 2)}\n`)
