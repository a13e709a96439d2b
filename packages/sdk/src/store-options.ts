/** Options and results of a store's calls. */

import type { StoreCallOptions } from "./options.js";
import type { ValueOptions } from "./value.js";

/** Options of `setValue` and `createValue`. */
export interface WriteOptions extends StoreCallOptions, ValueOptions {}

/** Options of calls that can be bound to a version. */
export interface VersionCondition {
  /** Write only if this is the current version (0: only if the key never existed); else `ConflictError`. */
  ifVersion?: number | undefined;
}

export interface SetOptions extends WriteOptions, VersionCondition {}

export interface DeleteOptions extends StoreCallOptions, VersionCondition {}

export interface ReadOptions extends StoreCallOptions {
  /** An earlier version than the current one. */
  version?: number | undefined;
}

export interface BulkReadOptions extends StoreCallOptions {
  /** What fails: the whole call (`throw`, the default), or only its place in the result (`collect`). */
  onError?: "throw" | "collect" | undefined;
}

/** How far a bulk change of the secret has come. */
export interface MigrationProgress {
  done: number;
  /** Brought under the current secret now. */
  moved: number;
  /** Were there before. */
  already: number;
  /** Under no secret. */
  absent: number;
}

/** A version that the server says it keeps. Reading it proves it. */
export interface KeptVersion {
  version: number;
  claimed: {
    createdAt: Date;
    /** Bytes of the sealed record. */
    size: number;
  };
}
