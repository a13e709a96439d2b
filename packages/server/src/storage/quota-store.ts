/** The bound on a project's bytes, and how many there were when they were last counted; spec/http.md § Quotas. No route can reach this interface. */

/** What a count found. */
export interface ByteCount {
  /** Of all versions written until `at`, rows that wait to be purged included. */
  bytes: number;
  /** Milliseconds since the epoch. */
  at: number;
  /** When to count again, milliseconds since the epoch. */
  dueAt: number;
}

export interface BoundedProject {
  project: string;
  maxBytes: number;
  /** Null until the first count has come to its end. */
  count: ByteCount | null;
}

/** After which row of a project to go on; null at the begin, and at the end. */
export type CountCursor = { store: string; id: Uint8Array; version: number } | null;

/** Throws StorageError as RecordStore does. */
export interface QuotaStore {
  /** The projects whose bytes are bounded. */
  boundedProjects(): Promise<BoundedProject[]>;
  /** Bytes of up to `maxRows` rows after `cursor`, of versions written until `until` (milliseconds since the epoch). */
  countBytes(
    project: string,
    until: number,
    cursor: CountCursor,
    maxRows: number,
  ): Promise<{ bytes: number; next: CountCursor }>;
  /** Keeps a count, unless the project's bytes are not bounded (any more). */
  keepCount(project: string, count: ByteCount): Promise<void>;
}

/** What a version takes beside its body, in bytes, roughly: its row, its place in the index, its part of the record's row. */
export const VERSION_BYTES = 384;
