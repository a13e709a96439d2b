/** What a restore and a copy put into a database: the rows of records, and commits of a bounded size. */

import type { RestoredRow, Restoration } from "../storage/restoration.js";
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

/** The rows of a record, to be put there as is said: its own, then those of its versions. */
export async function* recordRows(
  { record, bodies }: SourceRecord,
  as: "row" | "replacement",
): AsyncGenerator<RecordRows> {
  const { versions, ...columns } = record;
  const { project, store, record_id } = record;
  yield { row: { table: "records", as, row: columns } };
  let index = 0;
  for await (const body of bodies()) {
    const row = { project, store, record_id, ...versions[index++], body };
    yield { row: { table: "record_versions", as, row }, body };
  }
}

/** Gathers rows and commits them many at a time, each time with the mark as it is then. */
export class Batches {
  readonly #restoration: Restoration;
  readonly #mark: () => string;
  #rows: RestoredRow[] = [];
  #bytes = 0;

  constructor(restoration: Restoration, mark: () => string) {
    this.#restoration = restoration;
    this.#mark = mark;
  }

  /** @throws {StorageError} when it was time to commit and that failed. */
  async add(row: RestoredRow, bytes = 0): Promise<void> {
    this.#rows.push(row);
    this.#bytes += ROW_BYTES + bytes;
    if (this.#rows.length >= BATCH_ROWS || this.#bytes >= BATCH_BYTES) await this.flush(this.#mark());
  }

  /** Commits what has gathered, and notes the mark. @throws {StorageError} */
  async flush(mark: string | null): Promise<void> {
    await this.#restoration.commit(this.#rows, mark);
    this.#rows = [];
    this.#bytes = 0;
  }
}
