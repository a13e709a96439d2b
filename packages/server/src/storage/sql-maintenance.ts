/** Background work on opaque rows, in SQL; maintenance.ts says what each call promises. */

import type { MaintenanceStore, ScanCursor, ScannedRow } from "./maintenance.js";
import type { Transaction } from "kysely";

import { plainBytes } from "./bytes.js";
import type { Schema } from "./schema.js";
import { read, type SqlEngine } from "./sql-engine.js";
import type { WriteQueue } from "./write-queue.js";

/** Before every row: no project has an empty id. */
const START = { project: "", store: "", id: new Uint8Array(0), version: 0 };

export class SqlMaintenanceStore implements MaintenanceStore {
  readonly #engine: SqlEngine;
  readonly #queue: WriteQueue;

  constructor(engine: SqlEngine, queue: WriteQueue) {
    this.#engine = engine;
    this.#queue = queue;
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

  async purgeDestroyed(limit: number): Promise<number> {
    return await this.#queue.run(async (transaction) => {
      let gone = 0;
      while (gone < limit) {
        const store = await destroyedStoreWithRows(transaction);
        if (store === undefined) break;
        gone += await deleteVersions(transaction, store, limit - gone);
        if (gone < limit) gone += await deleteRecords(transaction, store, limit - gone);
      }
      return gone;
    });
  }

  async acquireLease(name: string, owner: string, now: number, duration: number): Promise<boolean> {
    return await this.#queue.run(async (transaction) => {
      const taken = await transaction
        .insertInto("leases")
        .values({ name, owner, expires_at: now + duration })
        .onConflict((conflict) =>
          conflict
            .column("name")
            .doUpdateSet({ owner, expires_at: now + duration })
            .where((eb) => eb.or([eb("leases.owner", "=", owner), eb("leases.expires_at", "<=", now)])),
        )
        .executeTakeFirst();
      return taken.numInsertedOrUpdatedRows === 1n;
    });
  }

  async releaseLease(name: string, owner: string): Promise<void> {
    await this.#queue.run((transaction) =>
      transaction.deleteFrom("leases").where("name", "=", name).where("owner", "=", owner).execute(),
    );
  }
}

interface DestroyedStore {
  project: string;
  id: string;
}

/** Asks store by store, of which there are few, instead of walking over every record there is. */
async function destroyedStoreWithRows(transaction: Transaction<Schema>): Promise<DestroyedStore | undefined> {
  return await transaction
    .selectFrom("stores as s")
    .select(["s.project", "s.id"])
    .where("s.destroyed_at", "is not", null)
    .where((eb) =>
      eb.or([
        eb.exists(
          eb
            .selectFrom("record_versions as v")
            .select("v.version")
            .whereRef("v.project", "=", "s.project")
            .whereRef("v.store", "=", "s.id"),
        ),
        eb.exists(
          eb
            .selectFrom("records as r")
            .select("r.version")
            .whereRef("r.project", "=", "s.project")
            .whereRef("r.store", "=", "s.id"),
        ),
      ]),
    )
    .limit(1)
    .executeTakeFirst();
}

async function deleteVersions(transaction: Transaction<Schema>, store: DestroyedStore, limit: number): Promise<number> {
  const deleted = await transaction
    .deleteFrom("record_versions")
    .where((eb) =>
      eb(
        eb.refTuple("project", "store", "record_id", "version"),
        "in",
        eb
          .selectFrom("record_versions")
          .select(["project", "store", "record_id", "version"])
          .where("project", "=", store.project)
          .where("store", "=", store.id)
          .limit(limit)
          .$asTuple("project", "store", "record_id", "version"),
      ),
    )
    .executeTakeFirst();
  return Number(deleted.numDeletedRows);
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
          .limit(limit)
          .$asTuple("project", "store", "record_id"),
      ),
    )
    .executeTakeFirst();
  return Number(deleted.numDeletedRows);
}
