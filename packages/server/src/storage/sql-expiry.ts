/** Versions past their expiry in SQL; maintenance.ts says what findExpiring and changeExpiring promise. */

import { sql, type Kysely, type Transaction } from "kysely";

import { plainBytes } from "./bytes.js";
import type { ExpiringRow, ExpiryChange, ExpiryCursor } from "./maintenance.js";
import type { Schema } from "./schema.js";
import { acceptsWrites } from "./sql-store-keys.js";
import type { Budget, VersionPurge } from "./version-purge.js";

/** What one commit deletes of earlier versions; the rest is noted for the purge. */
const DROPS: Budget = { rows: 256, bytes: 1_048_576 };

/** Before every version. */
const START = { expiresAt: 0, project: "", store: "", id: new Uint8Array(0), version: 0 };

export async function selectExpiring(
  db: Kysely<Schema>,
  now: number,
  cursor: ExpiryCursor,
  { maxRows, maxBytes }: { maxRows: number; maxBytes: number },
): Promise<{ rows: ExpiringRow[]; next: ExpiryCursor }> {
  const sizes = await expiring(db, now, cursor)
    .select(sql<number>`length(body)`.as("size"))
    .limit(maxRows)
    .execute();
  let bytes = 0;
  let count = 0;
  for (const { size } of sizes) {
    if (bytes >= maxBytes) break;
    bytes += size;
    count++;
  }
  const found = await expiring(db, now, cursor)
    .select(["project", "store", "record_id as id", "version", "body", "expires_at as expiresAt"])
    .limit(count)
    .execute();
  const rows = found.map((row) => ({ ...row, id: plainBytes(row.id), body: plainBytes(row.body) }));
  const last = rows.at(-1);
  if (last === undefined || (count === sizes.length && count < maxRows)) return { rows, next: null };
  const { project, store, id, version, expiresAt } = last;
  return { rows, next: { project, store, id, version, expiresAt } };
}

/** The condition `expires_at > 0`, spelt as in the index, lets that be used. */
function expiring(db: Kysely<Schema>, now: number, cursor: ExpiryCursor) {
  const { expiresAt, project, store, id, version } = cursor ?? START;
  return db
    .selectFrom("record_versions")
    .where("expires_at", ">", sql.lit(0))
    .where("expires_at", "<=", now)
    .where((eb) =>
      eb(
        eb.refTuple("expires_at", "project", "store", "record_id", "version"),
        ">",
        eb.tuple(expiresAt, project, store, id, version),
      ),
    )
    .orderBy("expires_at")
    .orderBy("project")
    .orderBy("store")
    .orderBy("record_id")
    .orderBy("version");
}

/** Each statement checks what it relies on, so a commit that comes in between only makes it change nothing. */
export async function applyExpiry(
  transaction: Transaction<Schema>,
  changes: readonly ExpiryChange[],
  purge: VersionPurge,
): Promise<void> {
  const budget = { ...DROPS };
  for (const change of changes) {
    if (!(await changeVersion(transaction, change)) || change.head === undefined) continue;
    if (await endEarlier(transaction, change)) {
      await purge.dropOrNote(transaction, [{ ...change, upTo: change.version - 1 }], budget);
    }
  }
}

/** Whether the version was there as the change says. */
async function changeVersion(transaction: Transaction<Schema>, change: ExpiryChange): Promise<boolean> {
  const { project, store, id, version, expiresAt, hint, head } = change;
  if (head !== undefined && !(await acceptsWrites(transaction, project, store, head.keyVersion))) return false;
  const { numUpdatedRows } = await transaction
    .updateTable("record_versions")
    .set({ expires_at: hint, ...(head && { body: head.body, key_version: head.keyVersion }) })
    .where("project", "=", project)
    .where("store", "=", store)
    .where("record_id", "=", id)
    .where("version", "=", version)
    .where("expires_at", "=", expiresAt)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** Keeps a record from this version on, if it is the current one. Whether anything earlier was kept. */
async function endEarlier(
  transaction: Transaction<Schema>,
  { project, store, id, version }: ExpiryChange,
): Promise<boolean> {
  const { numUpdatedRows } = await transaction
    .updateTable("records")
    .set({ kept_from: version })
    .where("project", "=", project)
    .where("store", "=", store)
    .where("record_id", "=", id)
    .where("version", "=", version)
    .where("kept_from", "<", version)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}
