/** Quotas of projects in SQL: what administration refuses, and the count of bytes; quota-store.ts, directory.ts. */

import type { ProjectQuotas } from "@tacenda/protocol";
import { sql, type Kysely, type Transaction } from "kysely";

import { plainBytes } from "./bytes.js";
import {
  VERSION_BYTES,
  type BoundedProject,
  type ByteCount,
  type CountCursor,
  type QuotaStore,
} from "./quota-store.js";
import type { Schema } from "./schema.js";
import { read, type SqlEngine } from "./sql-engine.js";
import type { WriteQueue } from "./write-queue.js";

/** Before every row: no store has an empty id. */
const START = { store: "", id: new Uint8Array(0), version: 0 };

export function quotaColumns({ maxStores = null, maxTokens = null, maxBytes = null }: Partial<ProjectQuotas>) {
  return { max_stores: maxStores, max_tokens: maxTokens, max_bytes: maxBytes };
}

/**
 * Whether a project has as many live stores, or tokens, as it may. In the transaction that makes one more, which is serializable:
 * so the bound is exact.
 */
export async function isFull(
  transaction: Transaction<Schema>,
  project: string,
  what: "stores" | "tokens",
): Promise<boolean> {
  const column = what === "stores" ? "max_stores" : "max_tokens";
  const found = await transaction.selectFrom("projects").select(column).where("id", "=", project).executeTakeFirst();
  const max = found?.[column] ?? null;
  if (max === null) return false;
  const count = sql<number>`count(*)`.as("count");
  const counting =
    what === "stores"
      ? transaction.selectFrom("stores").select(count).where("project", "=", project).where("destroyed_at", "is", null)
      : transaction.selectFrom("tokens").select(count).where("project", "=", project);
  return (await counting.executeTakeFirstOrThrow()).count >= max;
}

/** Of a bound that was not there before an old count says nothing. */
export async function forgetCount(transaction: Transaction<Schema>, project: string): Promise<void> {
  await transaction.deleteFrom("project_counts").where("project", "=", project).execute();
}

export class SqlQuotaStore implements QuotaStore {
  readonly #engine: SqlEngine;
  readonly #queue: WriteQueue;

  constructor(engine: SqlEngine, queue: WriteQueue) {
    this.#engine = engine;
    this.#queue = queue;
  }

  async boundedProjects(): Promise<BoundedProject[]> {
    const rows = await read(this.#engine, (db) =>
      db
        .selectFrom("projects as p")
        .leftJoin("project_counts as c", "c.project", "p.id")
        .select(["p.id as project", "p.max_bytes as maxBytes", "c.bytes", "c.counted_at as at", "c.due_at as dueAt"])
        .where("p.max_bytes", "is not", null)
        .where("p.destroyed_at", "is", null)
        .execute(),
    );
    return rows.map(({ project, maxBytes, bytes, at, dueAt }) => ({
      project,
      maxBytes: maxBytes ?? 0,
      count: bytes === null || at === null || dueAt === null ? null : { bytes, at, dueAt },
    }));
  }

  /** The time of a row is looked at here, so that a step looks at no more rows than it may. */
  async countBytes(
    project: string,
    until: number,
    cursor: CountCursor,
    maxRows: number,
  ): Promise<{ bytes: number; next: CountCursor }> {
    const { store, id, version } = cursor ?? START;
    const rows = await read(this.#engine, (db) =>
      db
        .selectFrom("record_versions")
        .select([
          "store",
          "record_id as id",
          "version",
          "created_at as createdAt",
          sql<number>`length(body)`.as("size"),
        ])
        .where("project", "=", project)
        .where((eb) => eb(eb.refTuple("store", "record_id", "version"), ">", eb.tuple(store, id, version)))
        .orderBy("store")
        .orderBy("record_id")
        .orderBy("version")
        .limit(maxRows)
        .execute(),
    );
    const bytes = rows.reduce((sum, { createdAt, size }) => sum + (createdAt <= until ? size + VERSION_BYTES : 0), 0);
    const last = rows.at(-1);
    if (last === undefined || rows.length < maxRows) return { bytes, next: null };
    return { bytes, next: { store: last.store, id: plainBytes(last.id), version: last.version } };
  }

  async keepCount(project: string, { bytes, at, dueAt }: ByteCount): Promise<void> {
    await this.#queue.inBackground(async (transaction) => {
      const bounded = await transaction
        .selectFrom("projects")
        .select("id")
        .where("id", "=", project)
        .where("max_bytes", "is not", null)
        .executeTakeFirst();
      if (bounded === undefined) return;
      const count = { bytes, counted_at: at, due_at: dueAt };
      await transaction
        .insertInto("project_counts")
        .values({ project, ...count })
        .onConflict((conflict) => conflict.column("project").doUpdateSet(count))
        .execute();
    });
  }
}

/** The settings of a project as they are in its row. */
export function toQuotas(row: Pick<Schema["projects"], "max_stores" | "max_tokens" | "max_bytes">): ProjectQuotas {
  return { maxStores: row.max_stores, maxTokens: row.max_tokens, maxBytes: row.max_bytes };
}

/** The row of a project that lives. */
export async function liveProject(db: Kysely<Schema>, id: string) {
  return await db
    .selectFrom("projects")
    .selectAll()
    .where("id", "=", id)
    .where("destroyed_at", "is", null)
    .executeTakeFirst();
}
