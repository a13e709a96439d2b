/** What administration keeps: projects, stores, tokens, wrapped store keys, and settings of the server itself. */

import type { Grant, Project, ProjectQuotas, Store, StoreSettings } from "@tacenda/protocol";

import type { WrappedKey } from "./store-key.js";

/** A token as the database has it: never the token, only its SHA-256. */
export interface TokenRow {
  id: string;
  project: string;
  name: string;
  /** SHA-256 of the whole token, 32 bytes. */
  digest: Uint8Array;
  grants: Grant[];
  createdAt: number;
  /** Milliseconds since the epoch, or null for never. */
  expiresAt: number | null;
  /** Id of the token that minted this one; null when root did. Deleting a token deletes what it minted. */
  mintedBy: string | null;
}

/** A token, and what became of it. */
export interface KeptToken extends TokenRow {
  /** The begin of the day, in milliseconds since the epoch, on which it was last used; null if it never was. */
  lastUsedAt: number | null;
}

export interface TokenUse {
  /** The token's. */
  id: string;
  /** Milliseconds since the epoch. */
  at: number;
}

/** What was made of a client's secret check; spec/envelope.md § Secret checks. */
export interface SecretCheck {
  /** 32 bytes. */
  digest: Uint8Array;
  /** Milliseconds since the epoch. */
  createdAt: number;
}

/** `retired`: an id that was destroyed is never used again, so that no client mistakes new records for old ones. */
export type CreateResult = "created" | "exists" | "retired";

/** All calls are durable when they resolve, and throw StorageError as RecordStore does. */
export interface Directory {
  /** Without quotas if none are given. */
  createProject(project: Pick<Project, "id" | "createdAt"> & Partial<ProjectQuotas>): Promise<CreateResult>;
  listProjects(): Promise<Project[]>;
  /** Changes the quotas that are given; null when there is no such project. */
  updateProject(id: string, quotas: Partial<ProjectQuotas>): Promise<Project | null>;
  hasProject(id: string): Promise<boolean>;
  /** Destroys the project, its stores, their wrapped keys and its tokens in one commit. False when there is none. */
  destroyProject(id: string, now: number): Promise<boolean>;

  /**
   * Makes a store and its first wrapped keys in one commit. `no_project` when the project does not exist, `stale_key` when
   * the master key of a wrap has been retired: wrap again, `over_quota` when the project has as many stores as it may.
   */
  createStore(
    project: string,
    store: Store,
    keys: readonly WrappedKey[],
  ): Promise<CreateResult | "no_project" | "stale_key" | "over_quota">;
  /** Null when the project does not exist. */
  listStores(project: string): Promise<Store[] | null>;
  getStore(project: string, id: string): Promise<Store | null>;
  /** Null when there is no such store. */
  updateStore(project: string, id: string, settings: Partial<StoreSettings>): Promise<Store | null>;
  /**
   * Deletes the store's wrapped keys and retires its id in one commit; its rows are purged later. Gives the keys that were
   * deleted, or null when there is no such store.
   */
  destroyStore(project: string, id: string, now: number): Promise<WrappedKey[] | null>;

  /** The checks registered for a store, the oldest first; empty when there is no such store. */
  secretChecks(project: string, store: string): Promise<SecretCheck[]>;
  /**
   * Registers `next`, at most two and the oldest first, in place of all there were, in one commit. False, and nothing
   * changes, when these are not (any more) the digests of `expected`, or the store does not exist.
   */
  replaceSecretChecks(
    project: string,
    store: string,
    expected: readonly SecretCheck[],
    next: readonly SecretCheck[],
  ): Promise<boolean>;

  /**
   * `gone` when the project does not exist, or has no token `mintedBy` (any more); `over_quota` when it has as many tokens as it
   * may, expired ones included.
   */
  createToken(token: TokenRow): Promise<"created" | "gone" | "over_quota">;
  findToken(id: string): Promise<KeptToken | null>;
  listTokens(project: string): Promise<KeptToken[] | null>;
  /** Keeps of each token's uses the last one. Tokens that are gone stay so. */
  noteTokenUses(uses: readonly TokenUse[]): Promise<void>;
  /** Deletes a token of the project and every token minted with it, directly or not. False when there is none. */
  deleteToken(project: string, id: string): Promise<boolean>;

  /** Another text after each store and project that was destroyed; null before the first. */
  destructions(): Promise<string | null>;

  getSetting(name: string): Promise<string | null>;
  setSetting(name: string, value: string): Promise<void>;
  deleteSetting(name: string): Promise<void>;
  /** Sets it if it is `expected`, null for not there. False, and nothing changes, when it is another by now. */
  replaceSetting(name: string, expected: string | null, value: string): Promise<boolean>;
}
