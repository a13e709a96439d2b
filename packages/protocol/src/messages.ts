/** JSON bodies, and the names of headers; spec/http.md. Times are milliseconds since the epoch. */

import type { CurrentVersion } from "./errors.js";

/** What a grant can allow on a store; `manage` makes its holder the project's administrator. */
export const PERMISSIONS = ["read", "write", "delete", "manage"] as const;
export type Permission = (typeof PERMISSIONS)[number];

/** Permissions on the stores that match one of the patterns: an exact id, `*`, or `prefix*`. */
export interface Grant {
  stores: string[];
  permissions: Permission[];
}

/** What root bounds of a project; null: it is not bounded. */
export interface ProjectQuotas {
  /** Stores, without those that were destroyed. */
  maxStores: number | null;
  /** Tokens, expired ones included. */
  maxTokens: number | null;
  /** Bytes of all versions that are kept, as they are counted every few minutes. */
  maxBytes: number | null;
}

export interface Project extends ProjectQuotas {
  id: string;
  createdAt: number;
}

export interface NewProject extends Partial<ProjectQuotas> {
  id: string;
}

/** `one`: all clients of the store share one secret, checked by the server. `any`: no secret check. */
export type SecretPolicy = "one" | "any";

export interface StoreSettings {
  secrets: SecretPolicy;
  /** Versions kept per key; older ones are dropped as new ones are written. */
  maxVersions: number;
}

export interface Store extends StoreSettings {
  id: string;
  createdAt: number;
}

export interface NewStore extends Partial<StoreSettings> {
  id: string;
}

export interface NewToken {
  name: string;
  grants: Grant[];
  /** When the token stops working; never later than its minter's. */
  expiresAt?: number;
}

export interface TokenInfo {
  id: string;
  name: string;
  grants: Grant[];
  createdAt: number;
  expiresAt: number | null;
  /** The begin of the day (UTC) on which it was last used, a few minutes late; null when it never was. */
  lastUsedAt: number | null;
}

/** The answer to minting; `token` is shown this once. */
export interface MintedToken extends TokenInfo {
  token: string;
}

/** `GET /v1/token`: who am I. */
export interface WhoAmI {
  type: "root" | "token";
  id: string;
  /** Null for root, which is of no project. */
  project: string | null;
  grants: Grant[];
  expiresAt: number | null;
}

/** A life of a master-key version: `damaged` if its key is there and cannot be used. */
type MasterKeyState = "enabled" | "retired" | "destroyed" | "damaged";

export interface MasterKeyInfo {
  version: number;
  /** Null when the key provider does not tell. */
  createdAt: number | null;
  /** Null when the key provider cannot be asked. */
  state: MasterKeyState | null;
  /** Store keys that are wrapped under it. */
  wraps: number;
}

export interface KeyProviderInfo {
  id: string;
  /** False if the database needs it and this server has none of that id. */
  configured: boolean;
  /** Whether it wraps new keys. */
  active: boolean;
  health: "ok" | "unavailable" | "refused";
  /** Why it is not healthy, and what to do. */
  message?: string;
  currentVersion: number | null;
  versions: MasterKeyInfo[];
}

/** A re-encryption under way. */
export interface ReencryptionInfo {
  project: string;
  store: string;
  /** 0 to 1: how far the pass over the store has come. */
  progress: number;
  /** Whether the pass has met bodies that do not verify, and keep their data key. */
  damaged: boolean;
  begunAt: number;
  /** When it ended with only damaged bodies left; null while it goes on. Without damage it is not listed any more. */
  endedAt: number | null;
}

/** The answer to `GET /v1/admin/keys`. */
export interface KeyStatus {
  providers: KeyProviderInfo[];
  /** Store keys that are not yet wrapped under the current master key of the active provider. */
  outdatedWraps: number;
  /** When the master key is rotated next by the schedule; null without one. */
  nextRotation: number | null;
  reencryptions: ReencryptionInfo[];
  /** What kept the work in the background from going on, the last time this server tried; null when nothing did. */
  failure: string | null;
}

/** A master-key version of a key provider. */
export interface MasterKeyRef {
  provider: string;
  masterVersion: number;
}

export interface StoreKeyInfo extends MasterKeyRef {
  purpose: "index" | "data";
  version: number;
  /** `retired` opens what exists, and nothing new is written under it. */
  state: "active" | "retired";
  createdAt: number;
}

/** The answer to `GET S/keys`. */
export interface StoreKeyStatus {
  keys: StoreKeyInfo[];
  reencryption: ReencryptionInfo | null;
}

/** What a destruction leaves: what is gone, since when, under which keys it was, and what would still open it. */
export interface DestructionReceipt {
  destroyed: string;
  at: number;
  /** The keys that are gone. Of a store: each with the master key it was wrapped under, if it is root that asks. */
  keys: (Partial<MasterKeyRef> & Partial<Pick<StoreKeyInfo, "purpose" | "version">>)[];
  /** In sentences; whatever is not among them does not open it. */
  stillOpenedBy: string[];
}

/** What the server enforces on a record without reading anything of it. */
export interface RecordAttributes {
  /** Deleting, moving and purging are refused. */
  protected: boolean;
  /** When false, reads are refused. */
  active: boolean;
}

/** A version that the server keeps of a record, as it tells it. */
export interface VersionInfo {
  version: number;
  createdAt: number;
  /** Bytes of the sealed record. */
  size: number;
}

/** The answer to `GET R/versions`: the newest first. */
export interface VersionList {
  versions: VersionInfo[];
}

/** One read of a batch. */
export interface BatchRead {
  /** The key hash, 43 characters of base64url. */
  key: string;
  /** The current version when it is absent. */
  version?: number;
}

/** One conditional write of a batch. */
export interface BatchWrite {
  /** The key hash, 43 characters of base64url. */
  key: string;
  /** The version that must be current; 0: the key hash must never have existed. */
  expect: number;
  /** The sealed record, base64url. */
  record: string;
  /** Drop all earlier versions in the same commit. */
  purge?: "earlier";
}

/** Either reads, each answered by itself, or writes, all or none; at most MAX_BATCH_OPERATIONS, one per key hash. */
export type BatchRequest = { reads: BatchRead[] } | { writes: BatchWrite[] };

/** What a batch says of one read. */
export type BatchReadResult =
  | {
      status: "record";
      version: number;
      /** The sealed record, base64url. */
      record: string;
      createdAt: number;
      protected: boolean;
    }
  /** The key hash never existed, or the version asked for is not kept. */
  | { status: "absent" }
  | { status: "expired"; current: CurrentVersion }
  | { status: "inactive" }
  /** What is stored does not verify. */
  | { status: "damaged" }
  /** The answer has no room for it: read it by itself. */
  | { status: "fetch_singly" };

export interface BatchWriteResult {
  version: number;
}

/** In the order of the operations. */
export interface BatchAnswer<Result extends BatchReadResult | BatchWriteResult> {
  results: Result[];
}

/** Names of Tacenda's own headers, in lower case. */
export const HEADERS = {
  /** When the server says that it stored this version, in milliseconds since the epoch. */
  createdAt: "tacenda-created-at",
  /** `protected` when the record is; absent otherwise. */
  attributes: "tacenda-attributes",
  /** The id that an error's body and the server's log share. */
  requestId: "tacenda-request-id",
  /** `off` when the store checks no secrets; absent otherwise. */
  secretCheck: "tacenda-secret-check",
  /** The version of the interface, with every error. */
  protocol: "tacenda-protocol",
} as const;

/** What `Tacenda-Secret-Check` says of a store that checks no secrets. */
export const SECRET_CHECK_OFF = "off";

/** Media type of a sealed record. */
export const RECORD_MEDIA_TYPE = "application/octet-stream";
