/** Bodies under data keys that are to be given up, in SQL; maintenance.ts says what the two calls promise. */

import { sql, type Kysely, type Transaction } from "kysely";

import { plainBytes } from "./bytes.js";
import type { StoreRef } from "./key-directory.js";
import type { BodyChange, OutdatedBody, OutdatedBounds, VersionPlace } from "./maintenance.js";
import type { Schema } from "./schema.js";
import { acceptsWrites } from "./sql-store-keys.js";

/** First looks at the sizes of some rows, which costs little, and then takes the bodies that matter of no more than it may. */
export async function selectOutdated(
  db: Kysely<Schema>,
  ref: StoreRef,
  upToDate: readonly Uint8Array[],
  place: VersionPlace,
  { maxRows, maxBodies, maxBytes }: OutdatedBounds,
): Promise<{ rows: OutdatedBody[]; next: VersionPlace | null }> {
  const seen = await after(db, ref, place)
    .select(["record_id as id", "version", sql<number>`length(body)`.as("size")])
    .limit(maxRows)
    .execute();
  let bytes = 0;
  let count = 0;
  for (const { size } of seen) {
    if (bytes >= maxBytes) break;
    bytes += size;
    count++;
  }
  const last = seen[count - 1];
  if (last === undefined) return { rows: [], next: null };
  const found = await after(db, ref, place)
    .select(["record_id as id", "version", "body"])
    .where((eb) => eb(eb.refTuple("record_id", "version"), "<=", eb.tuple(last.id, last.version)))
    .where((eb) => eb.and(upToDate.map((begin) => sql<boolean>`substr(body, 1, ${sql.lit(begin.length)}) != ${begin}`)))
    .limit(maxBodies)
    .execute();
  const rows = found.map((row) => ({ ...row, id: plainBytes(row.id), body: plainBytes(row.body) }));
  const isFull = rows.length === maxBodies;
  if (!isFull && count === seen.length && count < maxRows) return { rows, next: null };
  const { id, version } = (isFull ? rows.at(-1) : undefined) ?? last;
  return { rows, next: { id: plainBytes(id), version } };
}

/** The versions of a store after a place, in key order. */
function after(db: Kysely<Schema>, { project, store }: StoreRef, { id, version }: VersionPlace) {
  return db
    .selectFrom("record_versions")
    .where("project", "=", project)
    .where("store", "=", store)
    .where((eb) => eb(eb.refTuple("record_id", "version"), ">", eb.tuple(id, version)))
    .orderBy("record_id")
    .orderBy("version");
}

export async function replaceBodies(
  transaction: Transaction<Schema>,
  { project, store }: StoreRef,
  keyVersion: number,
  changes: readonly BodyChange[],
): Promise<number | null> {
  if (!(await acceptsWrites(transaction, project, store, keyVersion))) return null;
  let count = 0;
  for (const { id, version, before, body } of changes) {
    const { numUpdatedRows } = await transaction
      .updateTable("record_versions")
      .set({ body, key_version: keyVersion })
      .where("project", "=", project)
      .where("store", "=", store)
      .where("record_id", "=", id)
      .where("version", "=", version)
      .where("body", "=", before)
      .executeTakeFirst();
    count += Number(numUpdatedRows);
  }
  return count;
}
