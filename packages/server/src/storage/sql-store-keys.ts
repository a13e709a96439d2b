/** Wrapped store keys as rows, for both directories. */

import type { Kysely, Selectable, Transaction } from "kysely";

import { plainBytes } from "./bytes.js";
import type { Schema } from "./schema.js";
import type { MasterRef, WrappedKey } from "./store-key.js";

/** A store's keys by purpose and version. */
export async function selectKeys(db: Kysely<Schema>, project: string, store: string): Promise<WrappedKey[]> {
  const rows = await db
    .selectFrom("store_keys")
    .selectAll()
    .where("project", "=", project)
    .where("store", "=", store)
    .orderBy("purpose")
    .orderBy("version")
    .execute();
  return rows.map(toWrappedKey);
}

export function toWrappedKey(row: Selectable<Schema["store_keys"]>): WrappedKey {
  const { purpose, version, state, provider, master_version: masterVersion, wrapped, created_at: createdAt } = row;
  return { purpose, version, state, provider, masterVersion, wrapped: plainBytes(wrapped), createdAt };
}

/** The caller has seen that the master key is not retired, in the same transaction. */
export async function insertKey(transaction: Transaction<Schema>, project: string, store: string, key: WrappedKey) {
  const { purpose, version, state, provider, masterVersion, wrapped, createdAt } = key;
  const names = { project, store, purpose, version };
  await transaction
    .insertInto("store_keys")
    .values({ ...names, state, provider, master_version: masterVersion, wrapped, created_at: createdAt })
    .execute();
}

/**
 * Whether no wrap may be written under this master key any more. The transaction is serializable: of two, one of which finds a
 * key not retired and writes a wrap under it, and the other finds no such wrap and retires it, one is run again.
 */
export async function isRetired(
  transaction: Transaction<Schema>,
  { provider, masterVersion }: MasterRef,
): Promise<boolean> {
  const row = await transaction
    .selectFrom("retired_master_keys")
    .select("retired_at")
    .where("provider", "=", provider)
    .where("master_version", "=", masterVersion)
    .executeTakeFirst();
  return row !== undefined;
}

/** Whether records may be written under this data key, until the transaction ends. */
export async function acceptsWrites(
  transaction: Transaction<Schema>,
  project: string,
  store: string,
  keyVersion: number,
): Promise<boolean> {
  const key = await transaction
    .selectFrom("store_keys")
    .select("version")
    .where("project", "=", project)
    .where("store", "=", store)
    .where("purpose", "=", "data")
    .where("version", "=", keyVersion)
    .where("state", "=", "active")
    .forShare()
    .executeTakeFirst();
  return key !== undefined;
}
