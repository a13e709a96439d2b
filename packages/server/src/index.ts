/** @tacenda/server: the server as a library, to be started whole or embedded in another host. */

export { createApp, type AppDependencies } from "./app.js";
export { DEFAULT_MAX_CONNECTIONS, startServer, type RunningServer, type ServerOptions } from "./server.js";
export { StartupError } from "./startup-error.js";
export type { TlsFiles } from "./tls-files.js";
export type { Principal } from "./auth/principal.js";
export type { QuotaKeeper, StoreKeyMaker } from "./http/call.js";
export type { AccessEvent, NodeEnv } from "./http/dispatch.js";
export type { Logger } from "./logger.js";
export { createMetrics, type Metrics } from "./metrics.js";
export { EnvelopeStore } from "./envelope/envelope-store.js";
export { DamagedRecordError, StoreGoneError } from "./envelope/errors.js";
export { KeyProviderError, type KeyProvider, type Wrap, type WrapContext } from "./envelope/key-provider.js";
export { KeyringError, openKeyring } from "./envelope/providers/local-keyring.js";
export { StoreKeys, type StoreKeysOptions } from "./envelope/store-keys.js";
export type { Database, DiskUse } from "./storage/database.js";
export type { CreateResult, Directory, KeptToken, TokenRow, TokenUse } from "./storage/directory.js";
export type { KeyDirectory } from "./storage/key-directory.js";
export type { KeyPurpose, MasterRef, WrappedKey } from "./storage/store-key.js";
export { DataDirectoryLockedError, lockDataDirectory } from "./storage/lock.js";
export type { BoundedProject, ByteCount, QuotaStore } from "./storage/quota-store.js";
export type { MaintenanceStore, ScanCursor, ScannedRow } from "./storage/maintenance.js";
export {
  StaleKeyError,
  StorageBusyError,
  StorageError,
  StorageFullError,
  type CommitResult,
  type KeptVersion,
  type ReadRef,
  type RecordRef,
  type RecordState,
  type RecordStore,
  type StoredRecord,
  type WriteOperation,
} from "./storage/record-store.js";
export { openPostgres } from "./storage/postgres.js";
export { openSqlite } from "./storage/sqlite.js";
