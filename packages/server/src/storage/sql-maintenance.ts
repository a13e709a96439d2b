/** Background work on opaque rows, in SQL; maintenance.ts says what each call promises. */

import type { MaintenanceStore, ScanCursor, ScannedRow } from "./maintenance.js";
import { plainBytes } from "./bytes.js";
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
      const versions = await transaction
        .deleteFrom("record_versions")
        .where((eb) =>
          eb(
            eb.refTuple("project", "store", "record_id", "version"),
            "in",
            eb
              .selectFrom("stores as s")
              .innerJoin("record_versions as v", (join) =>
                join.onRef("v.project", "=", "s.project").onRef("v.store", "=", "s.id"),
              )
              .select(["v.project", "v.store", "v.record_id", "v.version"])
              .where("s.destroyed_at", "is not", null)
              .limit(limit)
              .$asTuple("project", "store", "record_id", "version"),
          ),
        )
        .executeTakeFirst();
      const gone = Number(versions.numDeletedRows);
      if (gone === limit) return gone;
      const records = await transaction
        .deleteFrom("records")
        .where((eb) =>
          eb(
            eb.refTuple("project", "store", "record_id"),
            "in",
            eb
              .selectFrom("stores as s")
              .innerJoin("records as r", (join) =>
                join.onRef("r.project", "=", "s.project").onRef("r.store", "=", "s.id"),
              )
              .select(["r.project", "r.store", "r.record_id"])
              .where("s.destroyed_at", "is not", null)
              .limit(limit - gone)
              .$asTuple("project", "store", "record_id"),
          ),
        )
        .executeTakeFirst();
      return gone + Number(records.numDeletedRows);
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
