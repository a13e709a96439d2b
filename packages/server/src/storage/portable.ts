/**
 * Which tables and columns a backup holds, and a copy; spec/envelope.md § Backups, § Copying. A column or a table more is one
 * line more here, and the compiler asks for it. A copy has more than a backup: see OPERATION. What neither has is in Transient.
 */

import type { Schema } from "./schema.js";

export type PortableValue = string | number | Uint8Array | null;

/** A row of any table. */
export type PortableRow = Readonly<Record<string, PortableValue>>;

type Base<T> = T extends number ? "integer" : T extends string ? "text" : "bytes";
/** What a column holds; with a question mark, or null. */
export type ColumnKind = "integer" | "text" | "bytes" | "integer?" | "text?" | "bytes?";
type KindOf<T> = null extends T ? `${Base<NonNullable<T>>}?` : Base<T>;

/** How the rows of a table are written and read back. */
export interface PortableTable<Row> {
  columns: { readonly [Column in keyof Row]: KindOf<Row[Column]> };
  /** Columns that tell the rows apart, in the order in which a scan goes. */
  key: readonly (keyof Row & string)[];
  /** For columns that were added later: what older backups, which lack them, are read with. */
  absent?: Partial<Row>;
  /** A column that refers to another row of the same table, and is filled in once all rows are there. */
  selfReference?: keyof Row & string;
}

export type RecordRow = Schema["records"];

/** A kept version without its body. */
export type VersionRow = Omit<Schema["record_versions"], "project" | "store" | "record_id" | "body"> & {
  /** Bytes of the body. */
  size: number;
};

/** In the order in which they are put back: no row comes before one that it refers to. */
export const ADMINISTRATION = {
  projects: {
    key: ["id"],
    columns: {
      id: "text",
      created_at: "integer",
      destroyed_at: "integer?",
      max_stores: "integer?",
      max_tokens: "integer?",
      max_bytes: "integer?",
    },
    absent: { max_stores: null, max_tokens: null, max_bytes: null },
  },
  stores: {
    key: ["project", "id"],
    columns: {
      project: "text",
      id: "text",
      secrets: "text",
      max_versions: "integer",
      created_at: "integer",
      destroyed_at: "integer?",
    },
  },
  secret_checks: {
    key: ["project", "store", "slot"],
    columns: { project: "text", store: "text", slot: "integer", digest: "bytes", created_at: "integer" },
  },
  tokens: {
    key: ["id"],
    columns: {
      id: "text",
      project: "text",
      name: "text",
      digest: "bytes",
      created_at: "integer",
      expires_at: "integer?",
      minted_by: "text?",
      last_used_at: "integer?",
    },
    absent: { last_used_at: null },
    selfReference: "minted_by",
  },
  grants: {
    key: ["project", "subject_type", "subject_id", "position"],
    columns: {
      project: "text",
      subject_type: "text",
      subject_id: "text",
      position: "integer",
      grant_number: "integer",
      store_pattern: "text",
      permissions: "text",
      expires_at: "integer?",
    },
  },
  settings: { key: ["name"], columns: { name: "text", value: "text" } },
} as const satisfies { [Name in keyof Schema]?: PortableTable<Schema[Name]> };

/** What goes into a file of its own. */
export const KEYS = {
  store_keys: {
    key: ["project", "store", "purpose", "version"],
    columns: {
      project: "text",
      store: "text",
      purpose: "text",
      version: "integer",
      state: "text",
      provider: "text",
      master_version: "integer",
      wrapped: "bytes",
      created_at: "integer",
    },
  },
} as const satisfies { [Name in keyof Schema]?: PortableTable<Schema[Name]> };

/**
 * What a copy has besides, for it goes on where its source stopped. A backup leaves it out: a restored database begins anew,
 * and a retired master key unwraps nothing wherever it is asked.
 */
const OPERATION = {
  retired_master_keys: {
    key: ["provider", "master_version"],
    columns: { provider: "text", master_version: "integer", retired_at: "integer" },
  },
  reencryptions: {
    key: ["project", "store"],
    columns: {
      project: "text",
      store: "text",
      run: "text",
      target: "integer",
      record_id: "bytes",
      version: "integer",
      damaged: "integer",
      begun_at: "integer",
      ended_at: "integer?",
    },
  },
} as const satisfies { [Name in keyof Schema]?: PortableTable<Schema[Name]> };

/**
 * Neither backed up nor copied: leases are of servers that run, counts are taken anew, and what is noted to be purged is not
 * kept any more, so that no backup and no copy has it.
 */
type Transient = "leases" | "purges" | "project_counts";

/** All tables but those of records, each after those that it refers to. */
export const ROW_TABLES = { ...ADMINISTRATION, ...KEYS, ...OPERATION } satisfies {
  [Name in Exclude<keyof Schema, Transient | "records" | "record_versions">]: PortableTable<Schema[Name]>;
};

export const RECORD: PortableTable<RecordRow> = {
  key: ["project", "store", "record_id"],
  columns: {
    project: "text",
    store: "text",
    record_id: "bytes",
    version: "integer",
    protected: "integer",
    active: "integer",
    tag: "bytes?",
    kept_from: "integer",
  },
};

export const VERSION: PortableTable<VersionRow> = {
  key: ["version"],
  columns: {
    version: "integer",
    key_version: "integer?",
    created_at: "integer",
    expires_at: "integer",
    size: "integer",
  },
};

/** What is read of a version's row beside its key and body. The size is the body's own. */
export const VERSION_COLUMNS = Object.keys(VERSION.columns).filter((name) => name !== "size") as Exclude<
  keyof VersionRow,
  "size"
>[];

export type AdministrationTable = keyof typeof ADMINISTRATION;
export type KeysTable = keyof typeof KEYS;
export type RowTable = keyof typeof ROW_TABLES;
export type KeyRow = Schema["store_keys"];
