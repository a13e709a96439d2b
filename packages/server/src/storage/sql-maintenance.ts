/** Background work on opaque rows, in SQL; maintenance.ts says what each call promises. */

import { MAX_VERSION } from "@tacenda/protocol";
import { sql, type Kysely, type Transaction } from "kysely";

import { plainBytes } from "./bytes.js";
import type { StoreRef } from "./key-directory.js";
import type { LeaseRef } from "./leases.js";
import type {
  BodyChange,
  ExpiringRow,
  ExpiryChange,
  ExpiryCursor,
  MaintenanceStore,
  OutdatedBody,
  OutdatedBounds,
  ScanCursor,
  ScannedRow,
  VersionPlace,
} from "./maintenance.js";
import { StorageError, type RecordRef } from "./record-store.js";
import type { Schema } from "./schema.js";
import { read, type SqlEngine } from "./sql-engine.js";
import { applyExpiry, selectExpiring } from "./sql-expiry.js";
import { acquireLease, renewLease } from "./sql-leases.js";
import { replaceBodies, selectOutdated } from "./sql-reencryption.js";
import { VersionPurge, isSpent, type Budget } from "./version-purge.js";
import type { WriteQueue } from "./write-queue.js";

/** Before every row: no project has an empty id. */
const START = { project: "", store: "", id: new Uint8Array(0), version: 0 };

export class SqlMaintenanceStore implements MaintenanceStore {
  readonly #engine: SqlEngine;
  readonly #queue: WriteQueue;

  readonly #versions: VersionPurge;

  constructor(engine: SqlEngine, queue: WriteQueue) {
    this.#engine = engine;
    this.#queue = queue;
    this.#versions = new VersionPurge(engine);
  }

  async scan(cursor: ScanCursor, limit: number): Promise<{ rows: ScannedRow[]; next: ScanCursor }> {
    const { project, store, id, version } = cursor ?? START;
    const found = await read(this.#engine, (db) =>
      db
        .selectFrom("record_versions")
        .select(["project", "store", "record_id as id", "version", "body"])
        .where((eb) =>
          eb(eb.refTuple("project", "store", "record_id", "version"), ">", eb.tuple(project, store, id, version)),
        )
        .orderBy("project")
        .orderBy("store")
        .orderBy("record_id")
        .orderBy("version")
        .limit(limit)
        .execute(),
    );
    const rows = found.map((row) => ({ ...row, id: plainBytes(row.id), body: plainBytes(row.body) }));
    const last = rows.at(-1);
    if (last === undefined || rows.length < limit) return { rows, next: null };
    return { rows, next: { project: last.project, store: last.store, id: last.id, version: last.version } };
  }

  async purgeDue(): Promise<number | null> {
    const { destroyedRowsStay: stay, clock } = this.#engine;
    return await read(this.#engine, async (db) => {
      if ((await db.selectFrom("purges").select("project").limit(1).executeTakeFirst()) !== undefined) return 0;
      const wait = stay === 0 ? sql<number>`0` : sql<number>`s.destroyed_at + ${sql.lit(stay)} - ${clock}`;
      const next = await destroyedWithRows(db).select(wait.as("wait")).orderBy("s.destroyed_at").executeTakeFirst();
      return next === undefined ? null : Math.max(next.wait, 0);
    });
  }

  async purgeDestroyed(maxRows: number, maxBytes: number): Promise<number> {
    return await this.#queue.inBackground(async (transaction) => {
      const budget = { rows: maxRows, bytes: maxBytes };
      while (!isSpent(budget) && (await this.#purgeRecord(transaction, budget)));
      while (!isSpent(budget) && (await this.#purgeStore(transaction, budget)));
      return maxRows - budget.rows;
    });
  }

  async scrub(): Promise<void> {
    try {
      await this.#queue.between(() => this.#engine.scrub());
    } catch (error) {
      throw error instanceof StorageError ? error : this.#engine.toStorageError(error, false);
    }
  }

  /** Goes on with one record that was noted. False when none is. */
  async #purgeRecord(transaction: Transaction<Schema>, budget: Budget): Promise<boolean> {
    const noted = await notedRecord(transaction);
    if (noted === undefined) return false;
    const { project, store, id, keptFrom } = noted;
    // The record itself is gone once its store was purged.
    const upTo = keptFrom === null ? 0 : keptFrom - 1;
    if (await this.#versions.drop(transaction, { project, store, id, upTo }, budget)) {
      await deleteNote(transaction, noted);
      budget.rows--;
    }
    return true;
  }

  /** Goes on with one destroyed store. False when none has rows. */
  async #purgeStore(transaction: Transaction<Schema>, budget: Budget): Promise<boolean> {
    const found = await this.#nextDestroyed(transaction);
    if (found === undefined) return false;
    const { project, id: store } = found;
    while (!isSpent(budget)) {
      const id = await firstIdWithVersions(transaction, found);
      if (id === undefined) {
        budget.rows -= await deleteRecords(transaction, found, budget.rows);
        break;
      }
      await this.#versions.drop(transaction, { project, store, id, upTo: MAX_VERSION }, budget);
    }
    return true;
  }

  async #nextDestroyed(transaction: Transaction<Schema>): Promise<DestroyedStore | undefined> {
    const { destroyedRowsStay: stay, clock } = this.#engine;
    const stores = destroyedWithRows(transaction).select(["s.project", "s.id"]);
    if (stay === 0) return await stores.executeTakeFirst();
    return await stores.where("s.destroyed_at", "<=", sql<number>`${clock} - ${sql.lit(stay)}`).executeTakeFirst();
  }

  async findExpiring(
    now: number,
    cursor: ExpiryCursor,
    bounds: { maxRows: number; maxBytes: number },
  ): Promise<{ rows: ExpiringRow[]; next: ExpiryCursor }> {
    return await read(this.#engine, (db) => selectExpiring(db, now, cursor, bounds));
  }

  async changeExpiring(changes: readonly ExpiryChange[]): Promise<void> {
    await this.#queue.inBackground((transaction) => applyExpiry(transaction, changes, this.#versions));
  }

  async findOutdatedBodies(
    ref: StoreRef,
    upToDate: readonly Uint8Array[],
    place: VersionPlace,
    bounds: OutdatedBounds,
  ): Promise<{ rows: OutdatedBody[]; next: VersionPlace | null }> {
    return await read(this.#engine, (db) => selectOutdated(db, ref, upToDate, place, bounds));
  }

  async replaceBodies(ref: StoreRef, keyVersion: number, changes: readonly BodyChange[]): Promise<number | null> {
    return await this.#queue.inBackground((transaction) => replaceBodies(transaction, ref, keyVersion, changes));
  }

  async acquireLease(lease: LeaseRef, duration: number): Promise<boolean> {
    const { clock } = this.#engine;
    return await this.#queue.inBackground((transaction) => acquireLease(transaction, clock, lease, duration));
  }

  async renewLease(lease: LeaseRef, duration: number): Promise<boolean> {
    const { clock } = this.#engine;
    return await this.#queue.inBackground((transaction) => renewLease(transaction, clock, lease, duration));
  }

  async releaseLease({ name, owner }: LeaseRef): Promise<void> {
    await this.#queue.inBackground((transaction) =>
      transaction.deleteFrom("leases").where("name", "=", name).where("owner", "=", owner).execute(),
    );
  }

  async clearLeases(): Promise<void> {
    await this.#queue.inBackground((transaction) => transaction.deleteFrom("leases").execute());
  }
}

interface NotedRecord extends RecordRef {
  /** Null when the record is gone. */
  keptFrom: number | null;
}

/**
 * The note is locked, and only then is it asked what it stands for: a commit that ends more versions of the record either has
 * come to its end by then, or waits and notes them anew (version-purge.ts § insertPurge). Notes that others hold are theirs.
 */
async function notedRecord(transaction: Transaction<Schema>): Promise<NotedRecord | undefined> {
  const note = await transaction
    .selectFrom("purges")
    .select(["project", "store", "record_id as id"])
    .limit(1)
    .forUpdate()
    .skipLocked()
    .executeTakeFirst();
  if (note === undefined) return undefined;
  const record = await transaction
    .selectFrom("records")
    .select("kept_from")
    .where("project", "=", note.project)
    .where("store", "=", note.store)
    .where("record_id", "=", note.id)
    .executeTakeFirst();
  return { ...note, keptFrom: record?.kept_from ?? null };
}

async function deleteNote(transaction: Transaction<Schema>, { project, store, id }: RecordRef): Promise<void> {
  await transaction
    .deleteFrom("purges")
    .where("project", "=", project)
    .where("store", "=", store)
    .where("record_id", "=", id)
    .execute();
}

interface DestroyedStore {
  project: string;
  id: string;
}

/**
 * Asks store by store, of which there are few, instead of walking over every record there is. For the first row in the order of
 * the key: asked whether there is any, PostgreSQL may read the whole table in search of it, when it takes most rows to be of
 * the store.
 */
function destroyedWithRows(db: Kysely<Schema>) {
  return db
    .selectFrom("stores as s")
    .where("s.destroyed_at", "is not", null)
    .where((eb) => {
      const version = eb
        .selectFrom("record_versions as v")
        .select("v.record_id")
        .whereRef("v.project", "=", "s.project")
        .whereRef("v.store", "=", "s.id")
        .orderBy("v.record_id")
        .limit(1);
      const record = eb
        .selectFrom("records as r")
        .select("r.record_id")
        .whereRef("r.project", "=", "s.project")
        .whereRef("r.store", "=", "s.id")
        .orderBy("r.record_id")
        .limit(1);
      return eb.or([eb(version, "is not", null), eb(record, "is not", null)]);
    })
    .limit(1);
}

async function firstIdWithVersions(
  transaction: Transaction<Schema>,
  store: DestroyedStore,
): Promise<Uint8Array | undefined> {
  const row = await transaction
    .selectFrom("record_versions")
    .select("record_id")
    .where("project", "=", store.project)
    .where("store", "=", store.id)
    .orderBy("record_id")
    .limit(1)
    .executeTakeFirst();
  return row?.record_id;
}

async function deleteRecords(transaction: Transaction<Schema>, store: DestroyedStore, limit: number): Promise<number> {
  const deleted = await transaction
    .deleteFrom("records")
    .where((eb) =>
      eb(
        eb.refTuple("project", "store", "record_id"),
        "in",
        eb
          .selectFrom("records")
          .select(["project", "store", "record_id"])
          .where("project", "=", store.project)
          .where("store", "=", store.id)
          .orderBy("record_id")
          .limit(limit)
          .$asTuple("project", "store", "record_id"),
      ),
    )
    .executeTakeFirst();
  return Number(deleted.numDeletedRows);
}
