/** Leases in SQL; leases.ts says what each call promises. Their ends are by the database's clock. */

import { sql, type RawBuilder, type Transaction } from "kysely";

import type { LeaseRef } from "./leases.js";
import type { Schema } from "./schema.js";

/** `clock`: the database's, in milliseconds since the epoch. */
export async function acquireLease(
  transaction: Transaction<Schema>,
  clock: RawBuilder<number>,
  { name, owner }: LeaseRef,
  duration: number,
): Promise<boolean> {
  const end = sql<number>`${clock} + ${sql.lit(duration)}`;
  const { numInsertedOrUpdatedRows } = await transaction
    .insertInto("leases")
    .values({ name, owner, expires_at: end })
    .onConflict((conflict) =>
      conflict
        .column("name")
        .doUpdateSet({ owner, expires_at: end })
        .where((eb) => eb.or([eb("leases.owner", "=", owner), eb("leases.expires_at", "<=", clock)])),
    )
    .executeTakeFirst();
  return numInsertedOrUpdatedRows === 1n;
}

export async function renewLease(
  transaction: Transaction<Schema>,
  clock: RawBuilder<number>,
  { name, owner }: LeaseRef,
  duration: number,
): Promise<boolean> {
  const { numUpdatedRows } = await transaction
    .updateTable("leases")
    .set({ expires_at: sql<number>`${clock} + ${sql.lit(duration)}` })
    .where("name", "=", name)
    .where("owner", "=", owner)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** Whether nobody else has taken the lease, and until the transaction ends nobody does. */
export async function holdsLease(transaction: Transaction<Schema>, { name, owner }: LeaseRef): Promise<boolean> {
  const lease = transaction.selectFrom("leases").select("name").where("name", "=", name).where("owner", "=", owner);
  return (await lease.forShare().executeTakeFirst()) !== undefined;
}
