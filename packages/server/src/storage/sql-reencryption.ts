/** Bodies under data keys that are to be given up, in SQL; maintenance.ts says what the two calls promise. */

import { sql, type Kysely, type Transaction } from "kysely";

import { plainBytes } from "./bytes.js";
import type { StoreRef } from "./key-directory.js";
import type { BodyChange, OutdatedBody, OutdatedBounds, VersionPlace } from "./maintenance.js";
import type { Schema } from "./schema.js";
import { acceptsWrites } from "./sql-store-keys.js";

/** First looks at the keys and sizes of some rows, and then takes the bodies of those that matter. */
export async function selectOutdated(
  db: Kysely<Schema>,
  ref: StoreRef,
  keyVersion: number,
  place: VersionPlace,
  { maxRows, maxBodies, maxBytes }: OutdatedBounds,
): Promise<{ rows: OutdatedBody[]; next: VersionPlace | null }> {
  const seen = await after(db, ref, place)
    .select(["record_id as id", "version", "key_version as keyVersion", sql<number>`length(body)`.as("size")])
    .limit(maxRows)
    .execute();
  let bytes = 0;
  let count = 0;
  let outdated = 0;
  for (const row of seen) {
    if (bytes >= maxBytes || outdated >= maxBodies) break;
    count++;
    if (row.keyVersion === null || row.keyVersion >= keyVersion) continue;
    outdated++;
    bytes += row.size;
  }
  const last = seen[count - 1];
  const isEnd = last === undefined || (count === seen.length && count < maxRows);
  const next = isEnd ? null : { id: plainBytes(last.id), version: last.version };
  if (outdated === 0 || last === undefined) return { rows: [], next };
  const rows = await after(db, ref, place)
    .select(["record_id as id", "version", "body"])
    .where("key_version", "<", keyVersion)
    .where((eb) => eb(eb.refTuple("record_id", "version"), "<=", eb.tuple(last.id, last.version)))
    .execute();
  return { rows: rows.map((row) => ({ ...row, id: plainBytes(row.id), body: plainBytes(row.body) })), next };
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
