export { CodeStorageHost, type CodeStorageHostOptions } from './code-storage.js'
export { CodeStorageClient, type CodeStorageClientOptions } from './code-storage-client.js'
export type * from './host.js'
export { TokenMinter, tokenAlgorithms, type MintRequest, type RefPolicy, type TokenAlgorithm, type TokenMinterOptions } from './mint.js'
