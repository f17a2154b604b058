import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** The paths of a certificate and its key, in PEM. */
export interface Certificate {
  readonly cert: string
  readonly key: string
}

/** A private authority, as a company has one; its certificate is in `cert`. Made by openssl, in a folder. */
export class Authority implements Certificate {
  readonly cert: string
  readonly key: string

  private constructor(
    private readonly folder: string,
    name: string,
  ) {
    this.cert = join(folder, `${name}.crt`)
    this.key = join(folder, `${name}.key`)
  }

  static async make(folder: string, name = 'ca'): Promise<Authority> {
    const authority = new Authority(folder, name)
    await run('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', authority.key, '-out', authority.cert, '-days', '30', '-subj', `/CN=${name}`])
    return authority
  }

  /** @param names such as `DNS:redis.internal` or `IP:127.0.0.1`. @param ran `expired`: it ran out a day ago. */
  async sign(name: string, names: readonly string[], ran: 'valid' | 'expired' = 'valid'): Promise<Certificate> {
    const made = { cert: join(this.folder, `${name}.crt`), key: join(this.folder, `${name}.key`) }
    const [request, extensions] = [join(this.folder, `${name}.csr`), join(this.folder, `${name}.ext`)]
    await run('openssl', ['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', made.key, '-out', request, '-subj', `/CN=${name}`])
    await writeFile(extensions, names.length === 0 ? '' : `subjectAltName=${names.join(',')}\n`)
    // A life of minus one day is one that ended yesterday.
    await run('openssl', ['x509', '-req', '-in', request, '-CA', this.cert, '-CAkey', this.key, '-CAcreateserial', '-out', made.cert, '-days', ran === 'valid' ? '30' : '-1', '-extfile', extensions])
    return made
  }
}
