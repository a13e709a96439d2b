/** Wrapped keys, retired master keys and re-encryptions in SQL; key-directory.ts says what each call promises. */

import { randomUUID } from "node:crypto";

import type { Kysely, Selectable, Transaction } from "kysely";

import { plainBytes } from "./bytes.js";
import type { KeyDirectory, Reencryption, StoreKey, StoreKeyCursor, StoreRef, WrapChange } from "./key-directory.js";
import type { LeaseRef } from "./leases.js";
import type { Schema } from "./schema.js";
import { read, type SqlEngine } from "./sql-engine.js";
import { holdsLease } from "./sql-leases.js";
import { insertKey, isRetired, selectKeys, toWrappedKey } from "./sql-store-keys.js";
import type { MasterRef, WrappedKey } from "./store-key.js";
import type { WriteQueue } from "./write-queue.js";

/** Before every key: no project has an empty id. */
const START = { project: "", store: "", purpose: "data", version: 0 } as const;

/**
 * Every change is a serializable transaction, as in sql-directory.ts. That is all that retiring a master key needs, for what
 * it relies on (that no wrap is under it) is written by such transactions only. Data keys are what commits of records rely on,
 * so changing them waits for those, and they wait for it.
 */
export class SqlKeyDirectory implements KeyDirectory {
  readonly #engine: SqlEngine;
  readonly #queue: WriteQueue;

  constructor(engine: SqlEngine, queue: WriteQueue) {
    this.#engine = engine;
    this.#queue = queue;
  }

  async wrappedKeys(project: string, store: string): Promise<WrappedKey[]> {
    return await read(this.#engine, (db) => selectKeys(db, project, store));
  }

  async countWraps(): Promise<(MasterRef & { wraps: number })[]> {
    const rows = await read(this.#engine, (db) =>
      db
        .selectFrom("store_keys")
        .select((eb) => ["provider", "master_version as masterVersion", eb.fn.countAll().as("wraps")])
        .groupBy(["provider", "master_version"])
        .orderBy("provider")
        .orderBy("master_version")
        .execute(),
    );
    return rows.map((row) => ({ ...row, wraps: Number(row.wraps) }));
  }

  async storesUnder({ provider, masterVersion }: MasterRef, limit: number): Promise<StoreRef[]> {
    return await read(this.#engine, (db) =>
      db
        .selectFrom("store_keys")
        .select(["project", "store"])
        .distinct()
        .where("provider", "=", provider)
        .where("master_version", "=", masterVersion)
        .orderBy("project")
        .orderBy("store")
        .limit(limit)
        .execute(),
    );
  }

  async findOutdated(master: MasterRef, cursor: StoreKeyCursor, limit: number): Promise<StoreKey[]> {
    const { project, store, purpose, version } = cursor ?? START;
    const rows = await read(this.#engine, (db) =>
      db
        .selectFrom("store_keys")
        .selectAll()
        .where((eb) =>
          eb(eb.refTuple("project", "store", "purpose", "version"), ">", eb.tuple(project, store, purpose, version)),
        )
        .where((eb) => eb.or([eb("provider", "!=", master.provider), eb("master_version", "!=", master.masterVersion)]))
        .orderBy("project")
        .orderBy("store")
        .orderBy("purpose")
        .orderBy("version")
        .limit(limit)
        .execute(),
    );
    return rows.map((row) => ({ project: row.project, store: row.store, ...toWrappedKey(row) }));
  }

  async replaceWraps(changes: readonly WrapChange[], lease: LeaseRef): Promise<number | null> {
    return await this.#queue.run(async (transaction) => {
      // Commits hold these rows, one after the other without end: whoever asked for one row would never have its turn.
      await this.#engine.lockStoreKeys(transaction);
      if (!(await holdsLease(transaction, lease))) return null;
      for (const { wrap } of changes) if (await isRetired(transaction, wrap)) return null;
      let count = 0;
      for (const change of changes) count += await replaceWrap(transaction, change);
      return count;
    });
  }

  async retireMaster(master: MasterRef, now: number): Promise<"retired" | "before" | "in_use"> {
    const { provider, masterVersion } = master;
    return await this.#queue.run(async (transaction) => {
      const used = await transaction
        .selectFrom("store_keys")
        .select("version")
        .where("provider", "=", provider)
        .where("master_version", "=", masterVersion)
        .limit(1)
        .executeTakeFirst();
      if (used !== undefined) return "in_use";
      const { numInsertedOrUpdatedRows } = await transaction
        .insertInto("retired_master_keys")
        .values({ provider, master_version: masterVersion, retired_at: now })
        .onConflict((conflict) => conflict.doNothing())
        .executeTakeFirst();
      return numInsertedOrUpdatedRows === 1n ? "retired" : "before";
    });
  }

  async reinstateMaster({ provider, masterVersion }: MasterRef): Promise<void> {
    await this.#queue.run((transaction) =>
      transaction
        .deleteFrom("retired_master_keys")
        .where("provider", "=", provider)
        .where("master_version", "=", masterVersion)
        .execute(),
    );
  }

  async retiredMasters(): Promise<(MasterRef & { retiredAt: number })[]> {
    return await read(this.#engine, (db) =>
      db
        .selectFrom("retired_master_keys")
        .select(["provider", "master_version as masterVersion", "retired_at as retiredAt"])
        .orderBy("provider")
        .orderBy("master_version")
        .execute(),
    );
  }

  async addDataKey({ project, store }: StoreRef, key: WrappedKey): Promise<"added" | "conflict" | "stale_key"> {
    return await this.#queue.run(async (transaction) => {
      // Writes under the data keys that are retired here come to their end first; later ones find them retired.
      await this.#engine.lockStoreKeys(transaction);
      if ((await newestDataKey(transaction, project, store)) !== key.version - 1) return "conflict";
      if (await isRetired(transaction, key)) return "stale_key";
      await transaction
        .updateTable("store_keys")
        .set({ state: "retired" })
        .where("project", "=", project)
        .where("store", "=", store)
        .where("purpose", "=", "data")
        .execute();
      await insertKey(transaction, project, store, key);
      return "added";
    });
  }

  async deleteDataKey({ project, store }: StoreRef, version: number): Promise<boolean> {
    return await this.#queue.run(async (transaction) => {
      await this.#engine.lockStoreKeys(transaction);
      const { numDeletedRows } = await transaction
        .deleteFrom("store_keys")
        .where("project", "=", project)
        .where("store", "=", store)
        .where("purpose", "=", "data")
        .where("version", "=", version)
        .where("state", "=", "retired")
        .executeTakeFirst();
      return numDeletedRows === 1n;
    });
  }

  async storesWithDataKeyBefore(time: number, limit: number): Promise<StoreRef[]> {
    return await read(this.#engine, (db) =>
      db
        .selectFrom("store_keys")
        .select(["project", "store"])
        .where("purpose", "=", "data")
        .where("state", "=", "active")
        .where("created_at", "<", time)
        .orderBy("project")
        .orderBy("store")
        .limit(limit)
        .execute(),
    );
  }

  async beginReencryption({ project, store }: StoreRef, now: number): Promise<boolean> {
    return await this.#queue.run(async (transaction) => {
      const target = await newestDataKey(transaction, project, store);
      if (target === null) return false;
      const place = { record_id: new Uint8Array(0), version: 0, damaged: 0 };
      const start = { run: randomUUID(), target, ...place, begun_at: now, ended_at: null };
      await transaction
        .insertInto("reencryptions")
        .values({ project, store, ...start })
        .onConflict((conflict) => conflict.columns(["project", "store"]).doUpdateSet(start))
        .execute();
      return true;
    });
  }

  async reencryptions(): Promise<Reencryption[]> {
    return await read(this.#engine, async (db) => {
      const query = db.selectFrom("reencryptions").selectAll().orderBy("begun_at").orderBy("project").orderBy("store");
      return (await query.execute()).map(toReencryption);
    });
  }

  async reencryption({ project, store }: StoreRef): Promise<Reencryption | null> {
    return await read(this.#engine, async (db) => {
      const row = await selectReencryption(db, project, store).executeTakeFirst();
      return row ? toReencryption(row) : null;
    });
  }

  async saveReencryption(progress: Reencryption): Promise<void> {
    const { project, store, run, id, version, damaged, endedAt } = progress;
    await this.#queue.inBackground((transaction) =>
      transaction
        .updateTable("reencryptions")
        .set({ record_id: id, version, damaged, ended_at: endedAt })
        .where("project", "=", project)
        .where("store", "=", store)
        .where("run", "=", run)
        .execute(),
    );
  }

  async endReencryption({ project, store, run }: Reencryption): Promise<void> {
    await this.#queue.inBackground((transaction) =>
      transaction
        .deleteFrom("reencryptions")
        .where("project", "=", project)
        .where("store", "=", store)
        .where("run", "=", run)
        .execute(),
    );
  }
}

/** Version of a store's newest data key; null when the store is gone. */
async function newestDataKey(transaction: Transaction<Schema>, project: string, store: string): Promise<number | null> {
  const row = await transaction
    .selectFrom("store_keys")
    .select((eb) => eb.fn.max("version").as("version"))
    .where("project", "=", project)
    .where("store", "=", store)
    .where("purpose", "=", "data")
    .executeTakeFirst();
  return row?.version ?? null;
}

async function replaceWrap(transaction: Transaction<Schema>, { key, wrap }: WrapChange): Promise<number> {
  const { numUpdatedRows } = await transaction
    .updateTable("store_keys")
    .set({ provider: wrap.provider, master_version: wrap.masterVersion, wrapped: wrap.wrapped })
    .where("project", "=", key.project)
    .where("store", "=", key.store)
    .where("purpose", "=", key.purpose)
    .where("version", "=", key.version)
    .where("wrapped", "=", key.wrapped)
    .executeTakeFirst();
  return Number(numUpdatedRows);
}

function selectReencryption(db: Kysely<Schema>, project: string, store: string) {
  return db.selectFrom("reencryptions").selectAll().where("project", "=", project).where("store", "=", store);
}

function toReencryption(row: Selectable<Schema["reencryptions"]>): Reencryption {
  const { project, store, run, target, version, damaged, begun_at: begunAt, ended_at: endedAt } = row;
  return { project, store, run, target, id: plainBytes(row.record_id), version, damaged, begunAt, endedAt };
}
