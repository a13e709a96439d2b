/** Every error the SDK throws. Messages say what to do and hold no secret, key, value or token. */

/** Marks our errors across duplicate copies of this package, where `instanceof` fails. */
const BRAND = Symbol.for("@tacenda/sdk/error");

export interface TacendaErrorOptions {
  /** The server's id of the request, to look up in its log. */
  requestId?: string | undefined;
  /** Another error of this package that led to this one. */
  cause?: TacendaError;
}

/** Base of all errors of this package. */
export abstract class TacendaError extends Error {
  /** Stable name of the kind of error, for `switch`. */
  abstract readonly code: TacendaErrorCode;
  /** Whether the same call may succeed later without a change. */
  readonly retryable: boolean = false;
  /** The server's id of the request, when it gave one. */
  readonly requestId: string | undefined;

  constructor(message: string, options: TacendaErrorOptions = {}) {
    super(message, options.cause && { cause: options.cause });
    this.requestId = options.requestId;
    Object.defineProperty(this, BRAND, { value: true });
  }

  override get name(): string {
    return this.constructor.name;
  }

  /**
   * Whether `error` is an error of this package and, if `code` is given, of that kind. Works across duplicate packages.
   *
   * @example
   * if (TacendaError.is(error, "conflict")) console.log(error.currentVersion);
   */
  static is(error: unknown): error is TacendaError;
  static is<Code extends TacendaErrorCode>(error: unknown, code: Code): error is TacendaErrorTypes[Code];
  static is(error: unknown, code?: TacendaErrorCode): boolean {
    if (typeof error !== "object" || error === null || !(BRAND in error)) return false;
    return code === undefined || (error as Partial<TacendaError>).code === code;
  }
}

/** An option is missing or makes no sense. */
export class ConfigurationError extends TacendaError {
  readonly code = "configuration";
}

/** The secret is shorter or simpler than the specification allows, mistyped, or derived with too few iterations. */
export class WeakSecretError extends TacendaError {
  readonly code = "weak_secret";
}

/** The key is empty, longer than 1,024 bytes of UTF-8, or not well-formed text. */
export class InvalidKeyError extends TacendaError {
  readonly code = "invalid_key";
}

/** The value is neither well-formed text nor bytes, or the metadata is no JSON object. */
export class InvalidValueError extends TacendaError {
  readonly code = "invalid_value";
}

/** The value is longer than 1,048,576 bytes, or the metadata than 8,192. */
export class ValueTooLargeError extends TacendaError {
  readonly code = "value_too_large";
}

/** The value was stored as bytes and asked for as text. */
export class NotTextError extends TacendaError {
  readonly code = "not_text";
}

/** Options of the errors that leave it open what became of a request. */
interface NoAnswerOptions extends TacendaErrorOptions {
  mayHaveHappened?: boolean;
  retryable?: boolean;
}

/** No answer came. */
abstract class NoAnswerError extends TacendaError {
  override readonly retryable: boolean;
  /**
   * Whether a write may have happened. If so, to repeat `setValue` could overwrite what others have written since: read
   * first, or repeat with `ifVersion`, which writes only over the version that you know.
   */
  readonly mayHaveHappened: boolean;

  constructor(message: string, options: NoAnswerOptions = {}) {
    super(message, options);
    this.retryable = options.retryable ?? true;
    this.mayHaveHappened = options.mayHaveHappened ?? false;
  }
}

/** The server cannot be reached, or the connection broke; or, and then not `retryable`, its certificate is not trusted. */
export class ServerUnreachableError extends NoAnswerError {
  readonly code = "server_unreachable";
}

/** No complete answer came within `timeout`. */
export class RequestTimeoutError extends NoAnswerError {
  readonly code = "request_timeout";
}

/** Options of the errors that ask for patience. */
interface BusyOptions extends TacendaErrorOptions {
  retryAfter?: number | undefined;
}

/** The request was sent as often as `maxAttempts` and `timeout` allow, and always refused for the time being. */
abstract class BusyError extends TacendaError {
  override readonly retryable = true;
  /** Milliseconds that the server asks to wait before the next request; undefined when it does not say. */
  readonly retryAfter: number | undefined;

  constructor(message: string, options: BusyOptions = {}) {
    super(message, options);
    this.retryAfter = options.retryAfter;
  }
}

/** The server, or a proxy before it, has more to do than it takes on, or the server's database is away. */
export class OverloadedError extends BusyError {
  readonly code = "overloaded";
}

/** This token, or whoever else a proxy counts, makes more requests than it may, or was wrong about the secret too often. */
export class RateLimitedError extends BusyError {
  readonly code = "rate_limited";
}

/** The server cannot reach its key provider and fails closed. */
export class KeyProviderUnavailableError extends TacendaError {
  readonly code = "key_provider_unavailable";
  override readonly retryable = true;
}

/** The server's disk or database is full. Nothing was written, and reads go on; its operator has to make room. */
export class StorageFullError extends TacendaError {
  readonly code = "storage_full";
  override readonly retryable = true;
}

/** The server failed; its operator finds the cause in its log under `requestId`. */
export class ServerFaultError extends TacendaError {
  readonly code = "server_fault";
}

/** An answer that no Tacenda server gives: another service, a proxy's page, or a server that misbehaves. */
export class ProtocolError extends TacendaError {
  readonly code = "protocol";
}

/** Server and SDK are of versions that do not go together; the message says which one to update. docs/versions.md. */
export class IncompatibleVersionError extends TacendaError {
  readonly code = "incompatible_version";
}

/** The server does not know the token, or it has expired. */
export class TokenRefusedError extends TacendaError {
  readonly code = "token_refused";
}

/** The token lacks a permission. */
export class PermissionDeniedError extends TacendaError {
  readonly code = "permission_denied";
}

/**
 * The project has reached a limit that the server's operator has set for it: of stores, tokens, or bytes. Nothing was written.
 * Reading and deleting go on. For bytes, what was deleted makes room within minutes.
 */
export class QuotaExceededError extends TacendaError {
  readonly code = "quota_exceeded";
}

/** There is no such store, or the token is for another project. */
export class StoreNotFoundError extends TacendaError {
  readonly code = "store_not_found";
}

/** `ifVersion` named a version that is not the current one, or writers kept getting in between. */
export class ConflictError extends TacendaError {
  readonly code = "conflict";
  /** The key's current version, verified; 0 when the server says that the key never existed. */
  readonly currentVersion: number;

  constructor(message: string, options: TacendaErrorOptions & { currentVersion: number }) {
    super(message, options);
    this.currentVersion = options.currentVersion;
  }
}

/** `createValue` met a live value, or an administrator an id that is taken. */
export class AlreadyExistsError extends TacendaError {
  readonly code = "already_exists";
}

/** The earlier version that was asked for is not kept, or holds no value. */
export class VersionNotFoundError extends TacendaError {
  readonly code = "version_not_found";
}

/** The id belonged to a store or project that was destroyed, and is never used again. */
export class IdRetiredError extends TacendaError {
  readonly code = "id_retired";
}

/**
 * The stored record does not open. It was altered, or sealed under another secret, iteration count or stretch, or for
 * another key, store or project. Which of these it was cannot be told, on purpose.
 */
export class RecordOpenError extends TacendaError {
  readonly code = "record_open";
}

/** The record is of a format this version of the SDK does not know. */
export class UnsupportedFormatError extends TacendaError {
  readonly code = "unsupported_format";
}

/** The server answered with an older state of this key than this client has already seen. */
export class RollbackError extends TacendaError {
  readonly code = "rollback";
}

/** The store's other clients use another secret, iteration count or stretch. Without this check every key would look absent. */
export class WrongSecretError extends TacendaError {
  readonly code = "wrong_secret";
}

/** This key has been moved to another secret: the store's secret was changed. */
export class SecretRotatedError extends TacendaError {
  readonly code = "secret_rotated";
}

/** The entry is protected against deletion. */
export class RecordProtectedError extends TacendaError {
  readonly code = "record_protected";
}

/** The entry has been made inactive: the server refuses to read it. */
export class RecordInactiveError extends TacendaError {
  readonly code = "record_inactive";
}

/** A key cannot be retired or destroyed: something refers to it, or it is not in the state that this needs. */
export class KeyInUseError extends TacendaError {
  readonly code = "key_in_use";
}

/**
 * Nobody can tell whether a write has happened: it was sent again after no clear answer and then refused, or the server lost its
 * database in the middle. Read the key, then decide whether to write again. `cause` is what the last answer was, unless others
 * had written meanwhile. `retryable` when that was for a reason that passes: then as after no answer, the same call may succeed
 * later, and `setValue` without `ifVersion` could overwrite what others have written since.
 */
export class OutcomeUnknownError extends TacendaError {
  readonly code = "outcome_unknown";
  override readonly retryable: boolean;

  constructor(message: string, options: TacendaErrorOptions & { retryable?: boolean } = {}) {
    super(message, options);
    this.retryable = options.retryable ?? options.cause?.retryable ?? false;
  }
}

/** Which class has which code. */
export interface TacendaErrorTypes {
  configuration: ConfigurationError;
  weak_secret: WeakSecretError;
  invalid_key: InvalidKeyError;
  invalid_value: InvalidValueError;
  value_too_large: ValueTooLargeError;
  not_text: NotTextError;
  server_unreachable: ServerUnreachableError;
  request_timeout: RequestTimeoutError;
  overloaded: OverloadedError;
  rate_limited: RateLimitedError;
  key_provider_unavailable: KeyProviderUnavailableError;
  storage_full: StorageFullError;
  server_fault: ServerFaultError;
  protocol: ProtocolError;
  incompatible_version: IncompatibleVersionError;
  token_refused: TokenRefusedError;
  permission_denied: PermissionDeniedError;
  quota_exceeded: QuotaExceededError;
  store_not_found: StoreNotFoundError;
  conflict: ConflictError;
  already_exists: AlreadyExistsError;
  version_not_found: VersionNotFoundError;
  id_retired: IdRetiredError;
  record_open: RecordOpenError;
  unsupported_format: UnsupportedFormatError;
  rollback: RollbackError;
  wrong_secret: WrongSecretError;
  secret_rotated: SecretRotatedError;
  record_protected: RecordProtectedError;
  record_inactive: RecordInactiveError;
  key_in_use: KeyInUseError;
  outcome_unknown: OutcomeUnknownError;
}

export type TacendaErrorCode = keyof TacendaErrorTypes;
