/**
 * The tables as Kysely sees them; migrations.ts makes them. Integers (versions, milliseconds) are JavaScript numbers up
 * to 2^53−1 here, and it is each dialect's one duty to bind and read them exactly; flags are 0 or 1.
 */

import type { SecretPolicy } from "@tacenda/protocol";

import type { WrappedKey } from "./store-key.js";

export interface Schema {
  projects: ProjectsTable;
  stores: StoresTable;
  store_keys: StoreKeysTable;
  records: RecordsTable;
  record_versions: RecordVersionsTable;
  purges: PurgesTable;
  secret_checks: SecretChecksTable;
  tokens: TokensTable;
  grants: GrantsTable;
  leases: LeasesTable;
  settings: SettingsTable;
  retired_master_keys: RetiredMasterKeysTable;
  reencryptions: ReencryptionsTable;
  project_counts: ProjectCountsTable;
}

interface ProjectsTable {
  id: string;
  created_at: number;
  /** Null while it lives. The row stays: an id is never used again. */
  destroyed_at: number | null;
  /** Quotas; null without a bound. */
  max_stores: number | null;
  max_tokens: number | null;
  max_bytes: number | null;
}

/** Of projects whose bytes are bounded: what the last count came to. Counting anew is always right. */
interface ProjectCountsTable {
  project: string;
  bytes: number;
  /** When the count began: what was written later is not in it. */
  counted_at: number;
  due_at: number;
}

interface StoresTable {
  project: string;
  id: string;
  secrets: SecretPolicy;
  max_versions: number;
  created_at: number;
  /** As in projects. */
  destroyed_at: number | null;
}

interface StoreKeysTable {
  project: string;
  store: string;
  purpose: WrappedKey["purpose"];
  version: number;
  state: WrappedKey["state"];
  provider: string;
  master_version: number;
  wrapped: Uint8Array;
  created_at: number;
}

/** Master-key versions under which nothing is wrapped any more; checked in every commit that writes a wrap. */
interface RetiredMasterKeysTable {
  provider: string;
  master_version: number;
  retired_at: number;
}

/** Stores whose records are being re-encrypted, and how far that has come. */
interface ReencryptionsTable {
  project: string;
  store: string;
  /** Random, and another one whenever it is begun anew. */
  run: string;
  /** Bodies under data keys below this version are outdated. */
  target: number;
  /** Up to this place the pass has come. At first before all: empty, and 0. */
  record_id: Uint8Array;
  version: number;
  /** Bodies that this pass has met and that do not verify. */
  damaged: number;
  begun_at: number;
  /** Null while there is something to do. One that ends without damage leaves no row. */
  ended_at: number | null;
}

/**
 * One row per record id that ever existed: its current state. Every query of a request on this table, on record_versions and on
 * purges names project, store and record id, and they refer to no other table, so that a database can spread them by record id:
 * docs/postgresql.md § Sharding. Whoever adds a query that does not keeps it to the background.
 */
interface RecordsTable {
  project: string;
  store: string;
  record_id: Uint8Array;
  version: number;
  protected: number;
  active: number;
  tag: Uint8Array | null;
  /** Versions below this one are not kept, although rows of some may still wait to be purged. Never falls. */
  kept_from: number;
}

/** Records of which there may be rows below `kept_from`. */
interface PurgesTable {
  project: string;
  store: string;
  record_id: Uint8Array;
}

interface RecordVersionsTable {
  project: string;
  store: string;
  record_id: Uint8Array;
  version: number;
  /** Data-key version of the body; null below a store without envelope. */
  key_version: number | null;
  body: Uint8Array;
  created_at: number;
  /** 0 for never, and when only the head is left. */
  expires_at: number;
}

interface SecretChecksTable {
  project: string;
  store: string;
  /** 1, and 2 while the secret is being changed. */
  slot: number;
  digest: Uint8Array;
  created_at: number;
}

export interface TokensTable {
  id: string;
  project: string;
  name: string;
  digest: Uint8Array;
  created_at: number;
  expires_at: number | null;
  minted_by: string | null;
  /** The begin of a day. Null: never, or never noted. */
  last_used_at: number | null;
}

/** One row per store pattern of a grant. */
interface GrantsTable {
  project: string;
  subject_type: "token";
  subject_id: string;
  /** Order of the rows of one subject: 0, 1, 2 … */
  position: number;
  /** Rows with the same number make up one grant. */
  grant_number: number;
  store_pattern: string;
  /** Permissions joined by commas. */
  permissions: string;
  /** Null: as long as its subject. */
  expires_at: number | null;
}

interface LeasesTable {
  name: string;
  owner: string;
  expires_at: number;
}

interface SettingsTable {
  name: string;
  value: string;
}
