/** What a handler is given: the request as far as it has been checked, and the services behind the routes. */

import type { Principal } from "../auth/principal.js";
import type { NewKeys } from "../envelope/new-store.js";
import type { KeyAdministration } from "../keys/key-administration.js";
import type { Directory } from "../storage/directory.js";
import type { RecordStore } from "../storage/record-store.js";
import type { ByteQuota } from "../quotas/byte-quota.js";
import type { MismatchLimit } from "./mismatch-limit.js";
import type { RateLimit } from "./rate-limit.js";
import type { Reply } from "./reply.js";
import type { StoreSettings } from "./store-settings.js";

/** A request that was authenticated and authorized, with its path parameters checked and its body read. */
export interface Call {
  readonly principal: Principal;
  /** Path parameters; an empty string where the route's path has none. */
  readonly project: string;
  readonly store: string;
  readonly token: string;
  /** The 32 bytes of the key hash; empty where the route's path has none. */
  readonly keyHash: Uint8Array;
  /** The query parameters the route knows; others were refused. */
  readonly query: ReadonlyMap<string, string>;
  readonly headers: Headers;
  /** Empty when the route takes none. */
  readonly body: Uint8Array;
}

/** The part of the store keys that handlers need. */
export interface StoreKeyMaker extends NewKeys {
  /** What blinds the store's secret checks; null when the store has no keys (any more). @throws {KeyProviderError} */
  open(project: string, store: string): Promise<SecretCheckBlinder | null>;
  /** Drops what is cached of a store that was destroyed. */
  forget(project: string, store: string): void;
  /** Drops what is cached of every store of a project that was destroyed. */
  forgetProject(project: string): void;
}

/** Turns a secret check of 32 bytes into what is kept of it. */
interface SecretCheckBlinder {
  blindSecretCheck(check: Uint8Array): Uint8Array;
}

/** Key operations of the running server; see KeyAdministration for what each does and throws. */
export type KeyAdministrator = Pick<
  KeyAdministration,
  "status" | "rotate" | "migrate" | "retire" | "reinstate" | "destroy" | "ofStore" | "rotateDataKey" | "reencrypt"
>;

/** The projects whose bytes are bounded; see ByteQuotas. */
export interface QuotaKeeper {
  of(project: string): ByteQuota | undefined;
  refresh(): Promise<void>;
}

/** What handlers use. */
export interface Services {
  /** The envelope: ids are key hashes, bodies sealed records. */
  readonly records: RecordStore;
  readonly directory: Directory;
  /** For writes of records. */
  readonly settings: StoreSettings;
  readonly keys: StoreKeyMaker;
  readonly keyAdministration: KeyAdministrator;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Resolves when the database and the key provider can be used. */
  readonly checkReady: () => Promise<void>;
  /** Forgets cached tokens, after some were deleted. */
  readonly forgetTokens: () => void;
  readonly mismatches: MismatchLimit;
  /** Null when tokens are not limited. */
  readonly rateLimit: RateLimit | null;
  readonly quotas: QuotaKeeper;
  /** Begins to purge, in the background, the rows of stores and versions that were destroyed. */
  readonly purgeDestroyed: () => void;
  /** Overwrites what the deletion of keys has left in the database's own log. It reports its own failures. */
  readonly scrub: () => Promise<void>;
  /** The OpenAPI document, as JSON text. */
  readonly openapi: string;
}

export type Handler = (call: Call, services: Services) => Reply | Promise<Reply>;
