/** Makes and updates the tables. A migration that was released is never edited: what changes comes as a new one. */

import { sql, type Kysely, type RawBuilder } from "kysely";
import { Migrator, type Migration } from "kysely/migration";

import { NewerDatabaseError, OlderDatabaseError } from "./database.js";
import type { Schema } from "./schema.js";

/** How a dialect spells what the tables are made of. */
export interface SqlTypes {
  /** Holds every integer up to 2^53−1. */
  integer: "integer" | "bigint";
  bytes: "blob" | "bytea";
  /** Compares byte by byte, so that the database's order is the program's, wherever it runs. */
  text: "text" | RawBuilder<unknown>;
  /** What follows the columns of every table. */
  tableOptions: string;
  /** The same for tables of small rows that are found by their whole primary key. */
  clusteredOptions: string;
  /** Statements that follow the first tables. */
  tuning: readonly string[];
}

const MIGRATIONS: Readonly<Record<string, (types: SqlTypes) => Migration>> = {
  "0001_foundation": foundation,
  "0002_bounded_purges": boundedPurges,
  "0003_expiry": () => EXPIRY,
  "0004_key_lifecycle": keyLifecycle,
  "0005_token_uses": tokenUses,
  "0006_quotas": quotas,
};

/** Names of the states that the tables have been in, the present one last. */
export const SCHEMAS: readonly string[] = Object.keys(MIGRATIONS);

/**
 * Brings the tables up to date, in one transaction. `schema`: the namespace of the tables, in a database that has several.
 * @throws {NewerDatabaseError} when a migration was run that this program does not know; nothing is changed.
 */
export async function migrate(db: Kysely<Schema>, types: SqlTypes, schema?: string): Promise<void> {
  await appliedMigrations(db, schema);
  const migrations = Object.fromEntries(Object.entries(MIGRATIONS).map(([name, make]) => [name, make(types)]));
  const migrator = new Migrator({
    db,
    provider: { getMigrations: () => Promise.resolve(migrations) },
    ...(schema !== undefined && { migrationTableSchema: schema }),
  });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw error instanceof Error ? error : new Error("A migration failed.", { cause: error });
}

/**
 * Checks that the tables are those of this program, and changes nothing.
 * @throws {NewerDatabaseError | OlderDatabaseError} when they are not.
 */
export async function checkSchema(db: Kysely<Schema>, schema?: string): Promise<void> {
  const applied = await appliedMigrations(db, schema);
  if (applied.length < SCHEMAS.length) throw new OlderDatabaseError(applied.length === 0);
}

/** @throws {NewerDatabaseError} */
async function appliedMigrations(db: Kysely<Schema>, schema: string | undefined): Promise<string[]> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true });
  const isMigrations = (table: { name: string; schema?: string }) =>
    table.name === "kysely_migration" && (schema === undefined || table.schema === schema);
  if (!tables.some(isMigrations)) return [];
  const { rows } = await sql<{ name: string }>`select name from kysely_migration`.execute(db);
  if (rows.some(({ name }) => !SCHEMAS.includes(name))) throw new NewerDatabaseError();
  return rows.map(({ name }) => name);
}

/** Projects, stores, keys, records, secret checks, tokens, grants, leases, settings. */
function foundation(types: SqlTypes): Migration {
  const plain = sql.raw(types.tableOptions);
  const clustered = sql.raw(types.clusteredOptions);
  const { integer, bytes, text } = types;

  async function administration(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable("projects")
      .addColumn("id", text, (column) => column.primaryKey().notNull())
      .addColumn("created_at", integer, (column) => column.notNull())
      .addColumn("destroyed_at", integer)
      .modifyEnd(clustered)
      .execute();
    await db.schema
      .createTable("stores")
      .addColumn("project", text, (column) => column.notNull().references("projects.id"))
      .addColumn("id", text, (column) => column.notNull())
      .addColumn("secrets", text, (column) => column.notNull())
      .addColumn("max_versions", integer, (column) => column.notNull())
      .addColumn("created_at", integer, (column) => column.notNull())
      .addColumn("destroyed_at", integer)
      .addPrimaryKeyConstraint("stores_key", ["project", "id"])
      .modifyEnd(clustered)
      .execute();
    await db.schema
      .createTable("store_keys")
      .addColumn("project", text, (column) => column.notNull())
      .addColumn("store", text, (column) => column.notNull())
      .addColumn("purpose", text, (column) => column.notNull())
      .addColumn("version", integer, (column) => column.notNull())
      .addColumn("state", text, (column) => column.notNull())
      .addColumn("provider", text, (column) => column.notNull())
      .addColumn("master_version", integer, (column) => column.notNull())
      .addColumn("wrapped", bytes, (column) => column.notNull())
      .addPrimaryKeyConstraint("store_keys_key", ["project", "store", "purpose", "version"])
      .addForeignKeyConstraint("store_keys_store", ["project", "store"], "stores", ["project", "id"])
      .modifyEnd(clustered)
      .execute();
    await db.schema
      .createTable("secret_checks")
      .addColumn("project", text, (column) => column.notNull())
      .addColumn("store", text, (column) => column.notNull())
      .addColumn("slot", integer, (column) => column.notNull())
      .addColumn("digest", bytes, (column) => column.notNull())
      .addColumn("created_at", integer, (column) => column.notNull())
      .addPrimaryKeyConstraint("secret_checks_key", ["project", "store", "slot"])
      .addForeignKeyConstraint("secret_checks_store", ["project", "store"], "stores", ["project", "id"])
      .modifyEnd(clustered)
      .execute();
    await db.schema
      .createTable("leases")
      .addColumn("name", text, (column) => column.primaryKey().notNull())
      .addColumn("owner", text, (column) => column.notNull())
      .addColumn("expires_at", integer, (column) => column.notNull())
      .modifyEnd(clustered)
      .execute();
    await db.schema
      .createTable("settings")
      .addColumn("name", text, (column) => column.primaryKey().notNull())
      .addColumn("value", text, (column) => column.notNull())
      .modifyEnd(clustered)
      .execute();
  }

  async function records(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable("records")
      .addColumn("project", text, (column) => column.notNull())
      .addColumn("store", text, (column) => column.notNull())
      .addColumn("record_id", bytes, (column) => column.notNull())
      .addColumn("version", integer, (column) => column.notNull())
      .addColumn("protected", integer, (column) => column.notNull())
      .addColumn("active", integer, (column) => column.notNull())
      .addColumn("tag", bytes)
      .addPrimaryKeyConstraint("records_key", ["project", "store", "record_id"])
      .modifyEnd(clustered)
      .execute();
    // Not clustered: bodies inside the key's tree would leave room for few keys per page and make it deep.
    await db.schema
      .createTable("record_versions")
      .addColumn("project", text, (column) => column.notNull())
      .addColumn("store", text, (column) => column.notNull())
      .addColumn("record_id", bytes, (column) => column.notNull())
      .addColumn("version", integer, (column) => column.notNull())
      .addColumn("key_version", integer)
      .addColumn("body", bytes, (column) => column.notNull())
      .addColumn("created_at", integer, (column) => column.notNull())
      .addColumn("expires_at", integer, (column) => column.notNull())
      .addPrimaryKeyConstraint("record_versions_key", ["project", "store", "record_id", "version"])
      .modifyEnd(plain)
      .execute();
  }

  async function access(db: Kysely<unknown>): Promise<void> {
    await db.schema
      .createTable("tokens")
      .addColumn("id", text, (column) => column.primaryKey().notNull())
      .addColumn("project", text, (column) => column.notNull().references("projects.id"))
      .addColumn("name", text, (column) => column.notNull())
      .addColumn("digest", bytes, (column) => column.notNull())
      .addColumn("created_at", integer, (column) => column.notNull())
      .addColumn("expires_at", integer)
      .addColumn("minted_by", text, (column) => column.references("tokens.id"))
      .modifyEnd(clustered)
      .execute();
    await db.schema.createIndex("tokens_project").on("tokens").column("project").execute();
    await db.schema.createIndex("tokens_minted_by").on("tokens").column("minted_by").execute();
    await db.schema
      .createTable("grants")
      .addColumn("project", text, (column) => column.notNull().references("projects.id"))
      .addColumn("subject_type", text, (column) => column.notNull())
      .addColumn("subject_id", text, (column) => column.notNull())
      .addColumn("position", integer, (column) => column.notNull())
      .addColumn("grant_number", integer, (column) => column.notNull())
      .addColumn("store_pattern", text, (column) => column.notNull())
      .addColumn("permissions", text, (column) => column.notNull())
      .addColumn("expires_at", integer)
      .addPrimaryKeyConstraint("grants_key", ["project", "subject_type", "subject_id", "position"])
      .modifyEnd(clustered)
      .execute();
  }

  return {
    async up(db: Kysely<unknown>): Promise<void> {
      await administration(db);
      await records(db);
      await access(db);
      for (const statement of types.tuning) await sql.raw(statement).execute(db);
    },
  };
}

/** From which version on a record is kept, and the records whose older rows wait to be purged. */
function boundedPurges(types: SqlTypes): Migration {
  return {
    async up(db: Kysely<unknown>): Promise<void> {
      await db.schema
        .alterTable("records")
        .addColumn("kept_from", types.integer, (column) => column.notNull().defaultTo(1))
        .execute();
      await db.schema
        .createTable("purges")
        .addColumn("project", types.text, (column) => column.notNull())
        .addColumn("store", types.text, (column) => column.notNull())
        .addColumn("record_id", types.bytes, (column) => column.notNull())
        .addPrimaryKeyConstraint("purges_key", ["project", "store", "record_id"])
        .modifyEnd(sql.raw(types.clusteredOptions))
        .execute();
    },
  };
}

/** Finds what may have expired. Most versions never do, and are not in the index. */
const EXPIRY: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await sql`create index record_versions_expiry
      on record_versions (expires_at, project, store, record_id, version) where expires_at > 0`.execute(db);
  },
};

/** When store keys were made, which master keys are retired, and re-encryptions under way. */
function keyLifecycle(types: SqlTypes): Migration {
  const { integer, bytes, text } = types;
  const clustered = sql.raw(types.clusteredOptions);
  return {
    async up(db: Kysely<unknown>): Promise<void> {
      await db.schema
        .alterTable("store_keys")
        .addColumn("created_at", integer, (column) => column.notNull().defaultTo(0))
        .execute();
      // Until now every key was made with its store.
      await sql`update store_keys set created_at = (
        select s.created_at from stores as s where s.project = store_keys.project and s.id = store_keys.store
      )`.execute(db);
      await db.schema
        .createTable("retired_master_keys")
        .addColumn("provider", text, (column) => column.notNull())
        .addColumn("master_version", integer, (column) => column.notNull())
        .addColumn("retired_at", integer, (column) => column.notNull())
        .addPrimaryKeyConstraint("retired_master_keys_key", ["provider", "master_version"])
        .modifyEnd(clustered)
        .execute();
      await db.schema
        .createTable("reencryptions")
        .addColumn("project", text, (column) => column.notNull())
        .addColumn("store", text, (column) => column.notNull())
        .addColumn("run", text, (column) => column.notNull())
        .addColumn("target", integer, (column) => column.notNull())
        .addColumn("record_id", bytes, (column) => column.notNull())
        .addColumn("version", integer, (column) => column.notNull())
        .addColumn("damaged", integer, (column) => column.notNull())
        .addColumn("begun_at", integer, (column) => column.notNull())
        .addColumn("ended_at", integer)
        .addPrimaryKeyConstraint("reencryptions_key", ["project", "store"])
        .addForeignKeyConstraint("reencryptions_store", ["project", "store"], "stores", ["project", "id"])
        .modifyEnd(clustered)
        .execute();
    },
  };
}

/** On which day each token was last used. */
function tokenUses({ integer }: SqlTypes): Migration {
  return {
    async up(db: Kysely<unknown>): Promise<void> {
      await db.schema.alterTable("tokens").addColumn("last_used_at", integer).execute();
    },
  };
}

/** Bounds on what a project may hold, and the last count of its bytes. */
function quotas({ integer, text, clusteredOptions }: SqlTypes): Migration {
  return {
    async up(db: Kysely<unknown>): Promise<void> {
      for (const column of ["max_stores", "max_tokens", "max_bytes"]) {
        await db.schema.alterTable("projects").addColumn(column, integer).execute();
      }
      await db.schema
        .createTable("project_counts")
        .addColumn("project", text, (column) => column.primaryKey().notNull().references("projects.id"))
        .addColumn("bytes", integer, (column) => column.notNull())
        .addColumn("counted_at", integer, (column) => column.notNull())
        .addColumn("due_at", integer, (column) => column.notNull())
        .modifyEnd(sql.raw(clusteredOptions))
        .execute();
    },
  };
}
