/** Tokens and their grants as rows. */

import { PERMISSIONS, type Grant, type Permission } from "@tacenda/protocol";
import { sql, type Kysely, type Selectable, type SelectQueryBuilder, type Transaction } from "kysely";

import { plainBytes } from "./bytes.js";
import type { KeptToken, TokenRow, TokenUse } from "./directory.js";
import { prepare, type Prepared } from "./prepared.js";
import type { Schema, TokensTable } from "./schema.js";

/** A token beside one of its grant rows, or beside none. */
export interface TokenGrantRow {
  id: string;
  project: string;
  name: string;
  digest: Uint8Array;
  created_at: number;
  expires_at: number | null;
  minted_by: string | null;
  last_used_at: number | null;
  grant_number: number | null;
  store_pattern: string | null;
  permissions: string | null;
}

/** Finds the token with an id. Not folded into the join, as in a record's read: see selectOne there. */
export function prepareTokenQuery(db: Kysely<Schema>): Prepared<string, TokenGrantRow> {
  return prepare((slot) => {
    const token = db
      .selectFrom("tokens")
      .selectAll()
      .where(
        "id",
        "=",
        slot((id) => id),
      );
    return withGrants(db, token.limit(sql.lit(1))).orderBy("g.position");
  });
}

/** The tokens of a project, oldest first. */
export async function projectTokens(db: Kysely<Schema>, project: string): Promise<KeptToken[]> {
  const rows = await withGrants(db, db.selectFrom("tokens").selectAll().where("project", "=", project))
    .orderBy("t.created_at")
    .orderBy("t.id")
    .orderBy("g.position")
    .execute();
  return toTokens(rows);
}

/** The subject's type is written out, not a parameter: see selectOne in sql-record-store.ts. */
function withGrants(db: Kysely<Schema>, tokens: SelectQueryBuilder<Schema, "tokens", Selectable<TokensTable>>) {
  return db
    .selectFrom(tokens.as("t"))
    .leftJoin("grants as g", (join) =>
      join
        .onRef("g.project", "=", "t.project")
        .on("g.subject_type", "=", sql.lit("token"))
        .onRef("g.subject_id", "=", "t.id"),
    )
    .select([
      "t.id",
      "t.project",
      "t.name",
      "t.digest",
      "t.created_at",
      "t.expires_at",
      "t.minted_by",
      "t.last_used_at",
      "g.grant_number",
      "g.store_pattern",
      "g.permissions",
    ]);
}

/** The tokens that rows make up; one token's rows are in the order of its grants. */
export function toTokens(rows: readonly TokenGrantRow[]): KeptToken[] {
  const tokens = new Map<string, KeptToken>();
  for (const row of rows) {
    const token = tokens.get(row.id) ?? toToken(row);
    tokens.set(row.id, token);
    if (row.grant_number === null || row.store_pattern === null || row.permissions === null) continue;
    const grant = (token.grants[row.grant_number] ??= { stores: [], permissions: toPermissions(row.permissions) });
    grant.stores.push(row.store_pattern);
  }
  return [...tokens.values()];
}

function toToken(row: TokenGrantRow): KeptToken {
  return {
    id: row.id,
    project: row.project,
    name: row.name,
    digest: plainBytes(row.digest),
    grants: [],
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    mintedBy: row.minted_by,
    lastUsedAt: row.last_used_at,
  };
}

/** What is not a permission gives none. */
function toPermissions(text: string): Permission[] {
  return text.split(",").filter((word): word is Permission => (PERMISSIONS as readonly string[]).includes(word));
}

/** Writes a token and its grants. */
export async function insertToken(transaction: Transaction<Schema>, token: TokenRow): Promise<void> {
  await transaction
    .insertInto("tokens")
    .values({
      id: token.id,
      project: token.project,
      name: token.name,
      digest: token.digest,
      created_at: token.createdAt,
      expires_at: token.expiresAt,
      minted_by: token.mintedBy,
      last_used_at: null,
    })
    .execute();
  const grants = token.grants.flatMap(toGrantRows).map((row, position) => ({
    ...row,
    position,
    project: token.project,
    subject_type: "token" as const,
    subject_id: token.id,
    expires_at: null,
  }));
  for (const grant of grants) await transaction.insertInto("grants").values(grant).execute();
}

function toGrantRows({ stores, permissions }: Grant, grantNumber: number) {
  return stores.map((pattern) => ({
    grant_number: grantNumber,
    store_pattern: pattern,
    permissions: permissions.join(","),
  }));
}

/** In the order of their ids, so that no two servers wait for each other. */
export async function updateTokenUses(transaction: Transaction<Schema>, uses: readonly TokenUse[]): Promise<void> {
  for (const { id, at } of uses.toSorted((a, b) => (a.id < b.id ? -1 : 1))) {
    await transaction
      .updateTable("tokens")
      .set({ last_used_at: at })
      .where("id", "=", id)
      // What another server has noted may be newer.
      .where((eb) => eb.or([eb("last_used_at", "is", null), eb("last_used_at", "<", at)]))
      .execute();
  }
}

/** Deletes a token of the project and all that was minted with it, directly or not. False when there is none. */
export async function deleteTokenTree(transaction: Transaction<Schema>, project: string, id: string): Promise<boolean> {
  const doomed = transaction.withRecursive("doomed(id)", (db) =>
    db
      .selectFrom("tokens")
      .select("tokens.id")
      .where("tokens.project", "=", project)
      .where("tokens.id", "=", id)
      // Not `union all`: it ends even if somebody edited the table into a circle.
      .union(db.selectFrom("tokens").innerJoin("doomed", "doomed.id", "tokens.minted_by").select("tokens.id")),
  );
  await doomed
    .deleteFrom("grants")
    .where("project", "=", project)
    .where("subject_type", "=", "token")
    .where("subject_id", "in", (eb) => eb.selectFrom("doomed").select("doomed.id"))
    .execute();
  const deleted = await doomed
    .deleteFrom("tokens")
    .where("id", "in", (eb) => eb.selectFrom("doomed").select("doomed.id"))
    .executeTakeFirst();
  return deleted.numDeletedRows > 0n;
}
