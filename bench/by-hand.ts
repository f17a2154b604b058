// The providers' own SDKs as somebody uses them who has no Switchyard: the shortest way that their guides show.

/** One sandbox at a time. */
export interface HandTools {
  /** Creates a sandbox; what it gives runs a command there, and returns its standard output. */
  create(): Promise<(command: string) => Promise<string>>
  kill(): Promise<void>
  close(): Promise<void>
}

type Environment = Readonly<Record<string, string | undefined>>

export const byHand = {
  e2b: async (environment: Environment): Promise<HandTools> => {
    const { Sandbox } = await import('e2b')
    let sandbox: InstanceType<typeof Sandbox>
    return {
      create: async () => {
        sandbox = await Sandbox.create('base', { apiKey: variable(environment, 'E2B_API_KEY'), apiUrl: variable(environment, 'E2B_API_URL'), sandboxUrl: variable(environment, 'E2B_SANDBOX_URL') })
        return async (command) => (await sandbox.commands.run(command)).stdout
      },
      kill: async () => {
        await sandbox.kill()
      },
      close: () => Promise.resolve(),
    }
  },
  modal: async (environment: Environment): Promise<HandTools> => {
    process.env['MODAL_SERVER_URL'] = variable(environment, 'MODAL_SERVER_URL')
    const { ModalClient } = await import('modal')
    const quiet = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
    const client = new ModalClient({ tokenId: variable(environment, 'MODAL_TOKEN_ID'), tokenSecret: variable(environment, 'MODAL_TOKEN_SECRET'), logger: quiet })
    let sandbox: Awaited<ReturnType<typeof client.sandboxes.create>>
    return {
      create: async () => {
        const app = await client.apps.fromName('by-hand', { createIfMissing: true })
        sandbox = await client.sandboxes.create(app, client.images.fromRegistry('buildpack-deps:bookworm-scm'))
        return async (command) => {
          const process = await sandbox.exec(['sh', '-c', command])
          const [stdout, exitCode] = await Promise.all([process.stdout.readText(), process.wait()])
          if (exitCode !== 0) throw new Error(`by hand: exit ${exitCode}: ${await process.stderr.readText()}`)
          return stdout
        }
      },
      kill: async () => {
        await sandbox.terminate({ wait: true })
      },
      close: async () => {
        client.close()
        return Promise.resolve()
      },
    }
  },
  daytona: async (environment: Environment): Promise<HandTools> => {
    const { Daytona } = await import('@daytona/sdk')
    // oxlint-disable-next-line typescript/no-deprecated -- as the adapter does
    const client = new Daytona({ apiKey: variable(environment, 'DAYTONA_API_KEY'), apiUrl: variable(environment, 'DAYTONA_API_URL'), useDeprecatedPolling: true })
    let sandbox: Awaited<ReturnType<typeof client.create>>
    return {
      create: async () => {
        sandbox = await client.create()
        return async (command) => {
          const { exitCode, result } = await sandbox.process.executeCommand(command)
          if (exitCode !== 0) throw new Error(`by hand: exit ${exitCode}: ${result}`)
          return result
        }
      },
      kill: async () => {
        await sandbox.delete(60, true)
      },
      close: () => client[Symbol.asyncDispose](),
    }
  },
}

function variable(environment: Environment, name: string): string {
  const value = environment[name]
  if (value === undefined) throw new Error(`${name} is missing`)
  return value
}
