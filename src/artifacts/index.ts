export { artifactsConfigSchema, createArtifactStore, type ArtifactsConfig } from './config.js'
export { FolderStore } from './folder-store.js'
export { S3Store, type S3Options } from './s3-store.js'
export type * from './store.js'
