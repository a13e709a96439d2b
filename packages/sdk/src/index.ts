/** @tacenda/sdk: a secret store that cannot read, name, list or link what it stores. */

export { Tacenda } from "./tacenda.js";
export type { Store } from "./store.js";
export type {
  BulkReadOptions,
  DeleteOptions,
  KeptVersion,
  MigrationProgress,
  ReadOptions,
  SetOptions,
  VersionCondition,
  WriteOptions,
} from "./store-options.js";
export type { Duration, ExpiryOptions } from "./duration.js";
export type { CacheOptions } from "./value-cache.js";
export type { Mark, VersionMemory } from "./marks.js";
export type { NamingRule, ValueOptions } from "./value.js";
export type { Entry, GoneEntry, LiveEntry } from "./entry.js";
export type { ConnectionOptions, SecretOptions, StoreCallOptions, StoreOptions, TacendaOptions } from "./options.js";
export type { ChangingSecret, SecretInput } from "./secret.js";
export type { CallOptions, ServerClaims } from "./http/record-api.js";
export { generateSecret } from "./crypto/generated.js";
export {
  AlreadyExistsError,
  ConfigurationError,
  ConflictError,
  IdRetiredError,
  IncompatibleVersionError,
  KeyInUseError,
  InvalidKeyError,
  InvalidValueError,
  KeyProviderUnavailableError,
  NotTextError,
  OutcomeUnknownError,
  OverloadedError,
  PermissionDeniedError,
  ProtocolError,
  QuotaExceededError,
  RateLimitedError,
  RecordInactiveError,
  RecordOpenError,
  RecordProtectedError,
  RequestTimeoutError,
  RollbackError,
  SecretRotatedError,
  ServerFaultError,
  ServerUnreachableError,
  StorageFullError,
  StoreNotFoundError,
  TacendaError,
  TokenRefusedError,
  UnsupportedFormatError,
  ValueTooLargeError,
  VersionNotFoundError,
  WeakSecretError,
  WrongSecretError,
  type TacendaErrorCode,
} from "./errors.js";
