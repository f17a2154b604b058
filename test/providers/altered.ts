import type { Provider } from '../../src/providers/provider.js'

/** A provider that does some things otherwise. */
export function altered(provider: Provider, changes: Partial<Provider>): Provider {
  return new Proxy(provider, {
    get: (target, property) => {
      const value: unknown = Reflect.get(property in changes ? changes : target, property)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
}
