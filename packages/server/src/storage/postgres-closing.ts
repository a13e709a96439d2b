/** Keeps writes from a PostgreSQL database that is copied: for as long as a lock is held, or for good; spec/envelope.md § Copying. */

import { sql, type Transaction } from "kysely";

import { CLOSED_STATE, sqlState, toStorageError } from "./postgres-errors.js";
import { PostgresPool } from "./postgres-pool.js";
import { checkFiles } from "./postgres-session.js";
import type { PostgresUrl } from "./postgres-url.js";
import { ROW_TABLES } from "./portable.js";
import { StorageError } from "./record-store.js";
import type { HeldWrites } from "./restoration.js";
import type { Schema } from "./schema.js";

/** All that a copy has. */
const TABLES = [...Object.keys(ROW_TABLES), "records", "record_versions"];
/** Of the triggers and of their function. */
const CLOSED = "tacenda_closed";
/** How long to wait for whoever is writing, in milliseconds. */
const LOCK_TIMEOUT = 5_000;

/**
 * Makes the tables refuse every write from the end of the transaction on, or take them again, whoever writes: a server that
 * runs looks at no mark. The lock waits for the transactions that have written, so that none of them ends later. For the rest
 * of this transaction its own writes are let through.
 */
export async function setClosed(
  transaction: Transaction<Schema>,
  isClosed: boolean,
  replaceMark: () => Promise<boolean>,
): Promise<boolean> {
  try {
    await sql`select set_config('tacenda.closing', 'on', true)`.execute(transaction);
    const mode = isClosed ? "share row exclusive" : "access exclusive";
    await sql.raw(`lock table ${TABLES.join(", ")} in ${mode} mode`).execute(transaction);
    if (!(await replaceMark())) return false;
    if (!isClosed) {
      await sql.raw(`drop function if exists ${CLOSED}() cascade`).execute(transaction);
      return true;
    }
    await sql
      .raw(
        `create or replace function ${CLOSED}() returns trigger language plpgsql as $$
        begin
          if current_setting('tacenda.closing', true) = 'on' then return null; end if;
          raise exception 'This database was closed: it was copied, or is being copied.' using errcode = '${CLOSED_STATE}';
        end $$`,
      )
      .execute(transaction);
    const { rows } = await sql<{ name: string }>`select c.relname as name from pg_trigger t
      join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
      where t.tgname = ${CLOSED} and n.nspname = current_schema()`.execute(transaction);
    const there = new Set(rows.map(({ name }) => name));
    for (const table of TABLES.filter((name) => !there.has(name))) {
      const when = "before insert or update or delete or truncate";
      const text = `create trigger ${CLOSED} ${when} on ${table} for each statement execute function ${CLOSED}()`;
      await sql.raw(text).execute(transaction);
    }
    return true;
  } catch (error) {
    if (sqlState(error) !== "42501") throw error;
    throw new StorageError(
      "This user of the database may not close or open it: do that as the one who owns its tables.",
      { cause: toStorageError(error, false).cause },
    );
  }
}

/** Locks the tables against writes, not against reads, on a connection of its own. @throws {StorageError} */
export async function lockAgainstWrites(url: PostgresUrl): Promise<HeldWrites> {
  checkFiles(url);
  const pool = new PostgresPool({ url, kind: "long", writes: true }, 1);
  try {
    const session = await pool.acquire();
    const { client } = session;
    await client.query("begin");
    await client.query(`set local lock_timeout = ${LOCK_TIMEOUT}`);
    await client.query(`lock table ${TABLES.join(", ")} in share mode`);
    return {
      async check() {
        try {
          // The lock lasts as long as the connection.
          await client.query("select 1");
        } catch (error) {
          throw new StorageError("The connection was lost that kept writes from the source.", {
            cause: toStorageError(error, false).cause,
          });
        }
      },
      async release() {
        await client.query("rollback").catch(() => undefined);
        pool.release(session);
        await pool.close();
      },
    };
  } catch (error) {
    await pool.close();
    if (sqlState(error) !== "55P03") throw toStorageError(error, false);
    throw new StorageError("Somebody is writing to the source: its tables cannot be locked. Stop whatever that is.", {
      cause: toStorageError(error, false).cause,
    });
  }
}
