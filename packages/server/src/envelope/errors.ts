/** What the envelope throws when it cannot give a record back; spec/envelope.md § Reading. */

/** Stored bytes do not verify. The message names nothing; `positions` says which of the call's reads are affected. */
export class DamagedRecordError extends Error {
  override name = "DamagedRecordError";
  /** Indexes into the refs that were read, ascending. The other records of the call are sound. */
  readonly positions: readonly number[];
  constructor(positions: readonly number[]) {
    super("A stored record does not verify: it was damaged or edited in the database. Restore it from a backup.");
    this.positions = positions;
  }
}

/** The store has no keys: it was destroyed, or never existed. */
export class StoreGoneError extends Error {
  override name = "StoreGoneError";
  constructor() {
    super("This store does not exist (any more).");
  }
}
