/** Bodies of the administration routes, and the names of headers; spec/http.md. Times are milliseconds since the epoch. */

/** What a grant can allow on a store; `manage` makes its holder the project's administrator. */
export const PERMISSIONS = ["read", "write", "delete", "manage"] as const;
export type Permission = (typeof PERMISSIONS)[number];

/** Permissions on the stores that match one of the patterns: an exact id, `*`, or `prefix*`. */
export interface Grant {
  stores: string[];
  permissions: Permission[];
}

export interface Project {
  id: string;
  createdAt: number;
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

/** Names of Tacenda's own headers, in lower case. */
export const HEADERS = {
  /** When the server says that it stored this version, in milliseconds since the epoch. */
  createdAt: "tacenda-created-at",
  /** `protected` when the record is; absent otherwise. */
  attributes: "tacenda-attributes",
  /** The id that an error's body and the server's log share. */
  requestId: "tacenda-request-id",
} as const;

/** Media type of a sealed record. */
export const RECORD_MEDIA_TYPE = "application/octet-stream";
