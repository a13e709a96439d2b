/**
 * Opaque records under conditional writes. Two things implement this interface: the SQL store, and the envelope that
 * decorates it. Above the envelope an id is a key hash and a body a sealed record; below it an id is blinded, a body
 * encrypted once more, and neither can be told from noise.
 */

/** Which record. */
export interface RecordRef {
  project: string;
  store: string;
  /** 32 bytes. */
  id: Uint8Array;
}

/** The order of records by project, store and id: negative when `a` comes first, 0 when they are the same. */
export function compareRefs(a: RecordRef, b: RecordRef): number {
  if (a.project !== b.project) return a.project < b.project ? -1 : 1;
  if (a.store !== b.store) return a.store < b.store ? -1 : 1;
  return Buffer.compare(a.id, b.id);
}

/** Which version of which record; the current one when none is named. */
export interface ReadRef extends RecordRef {
  version?: number;
}

/** What is true of a record as a whole, as opposed to one of its versions. */
export interface RecordState {
  /** 1 … 2^53−1. */
  version: number;
  protected: boolean;
  active: boolean;
  /** Authenticator of the fields above, made and checked by the envelope; opaque to the SQL store. */
  tag?: Uint8Array;
}

export interface KeptVersion {
  version: number;
  body: Uint8Array;
  /** Milliseconds since the epoch. */
  createdAt: number;
}

export interface StoredRecord {
  current: RecordState;
  /** The version that was asked for, or null when the record exists and that version is not kept. */
  kept: KeptVersion | null;
}

/** A kept version without its body. */
interface VersionSummary {
  version: number;
  /** Milliseconds since the epoch. */
  createdAt: number;
  /** Bytes of the body. */
  size: number;
}

export interface RecordVersions {
  current: RecordState;
  /** The newest first; in a sound database the current one is among them. */
  versions: VersionSummary[];
}

/** One conditional write; it writes a new version, or attributes, or both. */
export interface WriteOperation {
  ref: RecordRef;
  /** The state that must be current (its tag is not compared), or null: the id must never have existed. */
  expect: Omit<RecordState, "tag"> | null;
  /** The state that becomes current. Its version is the expected one, or one more when `write` is given. */
  next: RecordState;
  write?: {
    body: Uint8Array;
    /** Milliseconds since the epoch, 0 for never. Only a hint for the background purge: the seal decides. */
    expiresAt: number;
    createdAt: number;
  };
  /**
   * No version below `next.version` is kept from this commit on. Few or small rows are deleted with it, the others in the
   * background (MaintenanceStore.purgeDestroyed).
   */
  purgeEarlier?: boolean;
  /** How many versions are kept from this commit on, the new one included. Older ones go as with `purgeEarlier`. */
  keepVersions: number;
  /** Data-key version the body is encrypted under; set by the envelope. The commit checks that it accepts writes. */
  keyVersion?: number;
}

/** Either everything was written, or nothing and these operations (by index) met another state than they expected. */
export type CommitResult = { applied: true } | { applied: false; conflicts: number[] };

export interface RecordStore {
  /**
   * Reads records in the order asked; null where the id never existed. Every answer is of one committed state; a read
   * that begins after a commit was acknowledged sees it. At most 256 refs (RangeError).
   *
   * @throws {StorageError}
   */
  read(refs: readonly ReadRef[]): Promise<(StoredRecord | null)[]>;

  /**
   * What is kept of one record, as of one committed state; null when the id never existed.
   *
   * @throws {StorageError}
   */
  versions(ref: RecordRef): Promise<RecordVersions | null>;

  /**
   * Applies all operations or none, each id at most once. Serializable: the expectations are checked and the writes made
   * with no other commit in between. When the promise resolves with `applied: true`, the write is durable: it survives
   * kill -9 and power loss.
   *
   * @throws {RangeError} when an id comes twice, or an operation is not what its comments say; nothing is written.
   * @throws {StaleKeyError} when a data-key version no longer accepts writes, or its store is gone; nothing is written.
   * @throws {StorageBusyError} when too much waits to be written already, or the database is busy or away; nothing is
   * written.
   * @throws {StorageFullError} when the disk or the database has no room; nothing is written.
   * @throws {StorageError} on any other failure. Unless `outcome` is "none" the write may have happened.
   */
  commit(operations: readonly WriteOperation[]): Promise<CommitResult>;
}

/** The database failed. The message holds no SQL and no parameter; the cause is for the log. */
export class StorageError extends Error {
  override name = "StorageError";
  readonly outcome: "none" | "unknown";
  constructor(message: string, options: { cause?: unknown; outcome?: "none" | "unknown" } = {}) {
    super(message, { cause: options.cause });
    this.outcome = options.outcome ?? "none";
  }
}

/** Nothing was done, and soon it may go: too much waits to be written, or the database is busy or away. */
export class StorageBusyError extends StorageError {
  override name = "StorageBusyError";
  constructor(message = "Too many writes are waiting. Try again.", options: { cause?: unknown } = {}) {
    super(message, options);
  }
}

/** No room for a write. Reads go on. */
export class StorageFullError extends StorageError {
  override name = "StorageFullError";
}

/** A write named a data-key version that does not accept writes (any more), or whose store is gone. */
export class StaleKeyError extends Error {
  override name = "StaleKeyError";
}
