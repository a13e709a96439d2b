/** What a restore and a copy put into a database: the rows of records, and commits of a bounded size. */

import type { RestoredRow, Restoration } from "../storage/restoration.js";
import { BackupError } from "./errors.js";
import type { SourceRecord } from "./source.js";

/** What one commit takes: rows, and no more once they make up so many bytes. */
const BATCH_ROWS = 500;
const BATCH_BYTES = 1_048_576;
/** What a row takes beside its body, in bytes, roughly. */
const ROW_BYTES = 200;

export interface RecordRows {
  row: RestoredRow;
  /** When it is a version, and not the record itself. */
  body?: Uint8Array;
}

/** The rows of a record: its own, then those of its versions. */
export async function* recordRows({ record, bodies }: SourceRecord): AsyncGenerator<RecordRows> {
  const { versions, ...columns } = record;
  const { project, store, record_id } = record;
  yield { row: { table: "records", as: "row", row: columns } };
  let index = 0;
  for await (const body of bodies()) {
    const row = { project, store, record_id, ...versions[index++], body };
    yield { row: { table: "record_versions", as: "row", row }, body };
  }
}

/** Gathers changes and commits them many at a time, each time with the mark as it is to be then. */
export class Batches {
  readonly #restoration: Restoration;
  readonly #next: () => string;
  #mark: string | null;
  #rows: RestoredRow[] = [];
  #bytes = 0;

  /** `mark`: what is noted now. `next`: what is to be noted with the rows that were added up to then. */
  constructor(restoration: Restoration, mark: string | null, next: () => string) {
    this.#restoration = restoration;
    this.#mark = mark;
    this.#next = next;
  }

  /** @throws as flush does, when it was time for that. */
  async add(row: RestoredRow, bytes = 0): Promise<void> {
    this.#rows.push(row);
    this.#bytes += ROW_BYTES + bytes;
    if (this.#rows.length >= BATCH_ROWS || this.#bytes >= BATCH_BYTES) await this.flush();
  }

  /**
   * Commits what has gathered.
   * @throws {BackupError} when another restore or copy has taken over the database.
   * @throws {StorageError}
   */
  async flush(): Promise<void> {
    await this.#commit(this.#next());
  }

  /** The same, and nothing is noted any more. */
  async end(): Promise<void> {
    await this.#commit(null);
  }

  async #commit(mark: string | null): Promise<void> {
    if (!(await this.#restoration.commit(this.#rows, this.#mark, mark))) {
      throw new BackupError("Another restore or copy into the same database is at work. Wait for its end.");
    }
    this.#mark = mark;
    this.#rows = [];
    this.#bytes = 0;
  }
}
