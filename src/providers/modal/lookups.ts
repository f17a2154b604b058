import type { App, Image } from 'modal'
import type { Call } from './calls.js'
import { isNotFound } from './classify.js'

/**
 * The app and the images, looked up once. Modal builds an image at its first use and keeps it, so that a second lookup
 * would give the same one.
 */
export class Lookups {
  readonly #appName: string
  readonly #images = new Map<string, Image>()
  #app: App | undefined

  constructor(appName: string) {
    this.#appName = appName
  }

  /** The app, made if there is none. */
  async app(call: Call): Promise<App> {
    this.#app ??= await call.client.apps.fromName(this.#appName, { createIfMissing: true })
    return this.#app
  }

  /** The app, unless there is none yet: then there are no sandboxes either. */
  async existingApp(call: Call): Promise<App | undefined> {
    try {
      this.#app ??= await call.client.apps.fromName(this.#appName)
      return this.#app
    } catch (error) {
      if (isNotFound(error)) return undefined
      throw error
    }
  }

  /** @param name a registry tag, or the id of an image of Modal's (`im-…`). */
  async image(call: Call, app: App, name: string): Promise<Image> {
    const known = this.#images.get(name)
    if (known !== undefined) return known
    const image = name.startsWith('im-') ? await call.client.images.fromId(name) : call.client.images.fromRegistry(name)
    await image.build(app)
    this.#images.set(name, image)
    return image
  }

  /** For when one of them turns out to be gone. */
  forget(): void {
    this.#images.clear()
    this.#app = undefined
  }
}
