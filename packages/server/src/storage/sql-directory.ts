/** Projects, stores, wrapped keys, tokens and settings in SQL; directory.ts says what each call promises. */

import { randomUUID } from "node:crypto";

import type { Project, ProjectQuotas, Store, StoreSettings } from "@tacenda/protocol";
import type { Kysely, Selectable, Transaction } from "kysely";

import { plainBytes } from "./bytes.js";
import type { CreateResult, Directory, KeptToken, SecretCheck, TokenRow, TokenUse } from "./directory.js";
import { prepare, type Prepared } from "./prepared.js";
import type { Schema } from "./schema.js";
import { read, type SqlEngine } from "./sql-engine.js";
import { forgetCount, isFull, liveProject, quotaColumns, toQuotas } from "./sql-quotas.js";
import { insertKey, isRetired, selectKeys } from "./sql-store-keys.js";
import {
  deleteTokenTree,
  insertToken,
  prepareTokenQuery,
  projectTokens,
  toTokens,
  updateTokenUses,
  type TokenGrantRow,
} from "./sql-tokens.js";
import type { WrappedKey } from "./store-key.js";
import type { WriteQueue } from "./write-queue.js";

const NONE = new Uint8Array(0);
/** Another text after each destruction of a store or a project. */
const DESTRUCTIONS_SETTING = "destructions";

type StoreRow = Selectable<Schema["stores"]>;

/**
 * Every change is a serializable transaction: it reads what it relies on and then writes, and where the database runs others at
 * the same time it is as if they came one after the other, or one of them is run again. So nothing here needs locks, but for
 * what commits of records rely on, which are not of that kind: the rows of `store_keys`.
 */
export class SqlDirectory implements Directory {
  readonly #engine: SqlEngine;
  readonly #queue: WriteQueue;
  readonly #storeQuery: Prepared<{ project: string; id: string }, StoreRow>;
  readonly #tokenQuery: Prepared<string, TokenGrantRow>;

  constructor(engine: SqlEngine, queue: WriteQueue) {
    this.#engine = engine;
    this.#queue = queue;
    this.#storeQuery = prepare((slot) =>
      selectLiveStores(engine.reader)
        .where(
          "project",
          "=",
          slot(({ project }) => project),
        )
        .where(
          "id",
          "=",
          slot(({ id }) => id),
        ),
    );
    this.#tokenQuery = prepareTokenQuery(engine.reader);
  }

  async createProject(project: Pick<Project, "id" | "createdAt"> & Partial<ProjectQuotas>): Promise<CreateResult> {
    return await this.#queue.run(async (transaction) => {
      const existing = await transaction
        .selectFrom("projects")
        .select("destroyed_at")
        .where("id", "=", project.id)
        .executeTakeFirst();
      if (existing !== undefined) return existing.destroyed_at === null ? "exists" : "retired";
      await transaction
        .insertInto("projects")
        .values({ id: project.id, created_at: project.createdAt, destroyed_at: null, ...quotaColumns(project) })
        .execute();
      return "created";
    });
  }

  async listProjects(): Promise<Project[]> {
    const rows = await read(this.#engine, (db) =>
      db.selectFrom("projects").selectAll().where("destroyed_at", "is", null).orderBy("id").execute(),
    );
    return rows.map(toProject);
  }

  async updateProject(id: string, quotas: Partial<ProjectQuotas>): Promise<Project | null> {
    return await this.#queue.run(async (transaction) => {
      const row = await liveProject(transaction, id);
      if (row === undefined) return null;
      const updated = { ...toProject(row), ...quotas };
      await transaction.updateTable("projects").set(quotaColumns(updated)).where("id", "=", id).execute();
      if (row.max_bytes === null) await forgetCount(transaction, id);
      return updated;
    });
  }

  async hasProject(id: string): Promise<boolean> {
    return await read(this.#engine, (db) => projectLives(db, id));
  }

  async destroyProject(id: string, now: number): Promise<boolean> {
    return await this.#queue.run(async (transaction) => {
      await this.#engine.lockStoreKeys(transaction);
      if (!(await projectLives(transaction, id))) return false;
      await transaction.updateTable("projects").set({ destroyed_at: now }).where("id", "=", id).execute();
      await transaction
        .updateTable("stores")
        .set({ destroyed_at: now })
        .where("project", "=", id)
        .where("destroyed_at", "is", null)
        .execute();
      for (const table of [
        "store_keys",
        "secret_checks",
        "reencryptions",
        "grants",
        "tokens",
        "project_counts",
      ] as const) {
        await transaction.deleteFrom(table).where("project", "=", id).execute();
      }
      await writeSetting(transaction, DESTRUCTIONS_SETTING, randomUUID());
      return true;
    });
  }

  async createStore(
    project: string,
    store: Store,
    keys: readonly WrappedKey[],
  ): Promise<CreateResult | "no_project" | "stale_key" | "over_quota"> {
    return await this.#queue.run(async (transaction) => {
      if (!(await projectLives(transaction, project))) return "no_project";
      const existing = await transaction
        .selectFrom("stores")
        .select("destroyed_at")
        .where("project", "=", project)
        .where("id", "=", store.id)
        .executeTakeFirst();
      if (existing !== undefined) return existing.destroyed_at === null ? "exists" : "retired";
      if (await isFull(transaction, project, "stores")) return "over_quota";
      for (const key of keys) if (await isRetired(transaction, key)) return "stale_key";
      await transaction
        .insertInto("stores")
        .values({
          project,
          id: store.id,
          ...settingColumns(store),
          created_at: store.createdAt,
          destroyed_at: null,
        })
        .execute();
      for (const key of keys) await insertKey(transaction, project, store.id, key);
      return "created";
    });
  }

  async listStores(project: string): Promise<Store[] | null> {
    return await read(this.#engine, async (db) => {
      const rows = await selectLiveStores(db).where("project", "=", project).orderBy("id").execute();
      return rows.length > 0 || (await projectLives(db, project)) ? rows.map(toStore) : null;
    });
  }

  async getStore(project: string, id: string): Promise<Store | null> {
    const { rows } = await read(this.#engine, (db) => db.executeQuery(this.#storeQuery({ project, id })));
    return rows[0] ? toStore(rows[0]) : null;
  }

  async updateStore(project: string, id: string, settings: Partial<StoreSettings>): Promise<Store | null> {
    return await this.#queue.run(async (transaction) => {
      const live = selectLiveStores(transaction).where("project", "=", project).where("id", "=", id);
      const row = await live.executeTakeFirst();
      if (row === undefined) return null;
      const updated = { ...toStore(row), ...settings };
      await transaction
        .updateTable("stores")
        .set(settingColumns(updated))
        .where("project", "=", project)
        .where("id", "=", id)
        .execute();
      return updated;
    });
  }

  async destroyStore(project: string, id: string, now: number): Promise<WrappedKey[] | null> {
    return await this.#queue.run(async (transaction) => {
      // Writes under way come to their end first, and those that come later find no key.
      await this.#engine.lockStoreKeys(transaction);
      const retired = await transaction
        .updateTable("stores")
        .set({ destroyed_at: now })
        .where("project", "=", project)
        .where("id", "=", id)
        .where("destroyed_at", "is", null)
        .executeTakeFirst();
      if (retired.numUpdatedRows === 0n) return null;
      const keys = await selectKeys(transaction, project, id);
      for (const table of ["store_keys", "secret_checks", "reencryptions"] as const) {
        await transaction.deleteFrom(table).where("project", "=", project).where("store", "=", id).execute();
      }
      await writeSetting(transaction, DESTRUCTIONS_SETTING, randomUUID());
      return keys;
    });
  }

  async secretChecks(project: string, store: string): Promise<SecretCheck[]> {
    return await read(this.#engine, (db) => selectChecks(db, project, store));
  }

  async replaceSecretChecks(
    project: string,
    store: string,
    expected: readonly SecretCheck[],
    next: readonly SecretCheck[],
  ): Promise<boolean> {
    return await this.#queue.run(async (transaction) => {
      const live = selectLiveStores(transaction).where("project", "=", project).where("id", "=", store);
      if ((await live.executeTakeFirst()) === undefined) return false;
      const present = await selectChecks(transaction, project, store);
      if (!isSameChecks(present, expected)) return false;
      await transaction.deleteFrom("secret_checks").where("project", "=", project).where("store", "=", store).execute();
      for (const [index, { digest, createdAt }] of next.entries()) {
        const row = { project, store, slot: index + 1, digest, created_at: createdAt };
        await transaction.insertInto("secret_checks").values(row).execute();
      }
      return true;
    });
  }

  async createToken(token: TokenRow): Promise<"created" | "gone" | "over_quota"> {
    return await this.#queue.run(async (transaction) => {
      if (!(await projectLives(transaction, token.project))) return "gone";
      if (token.mintedBy !== null && !(await tokenExists(transaction, token.project, token.mintedBy))) return "gone";
      if (await isFull(transaction, token.project, "tokens")) return "over_quota";
      await insertToken(transaction, token);
      return "created";
    });
  }

  async findToken(id: string): Promise<KeptToken | null> {
    const { rows } = await read(this.#engine, (db) => db.executeQuery(this.#tokenQuery(id)));
    return toTokens(rows)[0] ?? null;
  }

  async listTokens(project: string): Promise<KeptToken[] | null> {
    return await read(this.#engine, async (db) => {
      const tokens = await projectTokens(db, project);
      return tokens.length > 0 || (await projectLives(db, project)) ? tokens : null;
    });
  }

  async deleteToken(project: string, id: string): Promise<boolean> {
    return await this.#queue.run((transaction) => deleteTokenTree(transaction, project, id));
  }

  async destructions(): Promise<string | null> {
    return await this.getSetting(DESTRUCTIONS_SETTING);
  }

  async noteTokenUses(uses: readonly TokenUse[]): Promise<void> {
    await this.#queue.inBackground((transaction) => updateTokenUses(transaction, uses));
  }

  async getSetting(name: string): Promise<string | null> {
    return await read(this.#engine, (db) => selectSetting(db, name));
  }

  async deleteSetting(name: string): Promise<void> {
    await this.#queue.run((transaction) => transaction.deleteFrom("settings").where("name", "=", name).execute());
  }

  async setSetting(name: string, value: string): Promise<void> {
    await this.#queue.run((transaction) => writeSetting(transaction, name, value));
  }

  async replaceSetting(name: string, expected: string | null, value: string): Promise<boolean> {
    return await this.#queue.run(async (transaction) => {
      if ((await selectSetting(transaction, name)) !== expected) return false;
      await writeSetting(transaction, name, value);
      return true;
    });
  }
}

async function selectSetting(db: Kysely<Schema>, name: string): Promise<string | null> {
  const row = await db.selectFrom("settings").select("value").where("name", "=", name).executeTakeFirst();
  return row?.value ?? null;
}

async function writeSetting(transaction: Transaction<Schema>, name: string, value: string): Promise<void> {
  await transaction
    .insertInto("settings")
    .values({ name, value })
    .onConflict((conflict) => conflict.column("name").doUpdateSet({ value }))
    .execute();
}

function selectLiveStores(db: Kysely<Schema>) {
  return db.selectFrom("stores").selectAll().where("destroyed_at", "is", null);
}

async function selectChecks(db: Kysely<Schema>, project: string, store: string): Promise<SecretCheck[]> {
  const rows = await db
    .selectFrom("secret_checks")
    .select(["digest", "created_at as createdAt"])
    .where("project", "=", project)
    .where("store", "=", store)
    .orderBy("slot")
    .execute();
  return rows.map(({ digest, createdAt }) => ({ digest: plainBytes(digest), createdAt }));
}

function isSameChecks(a: readonly SecretCheck[], b: readonly SecretCheck[]): boolean {
  return (
    a.length === b.length && a.every(({ digest }, index) => Buffer.compare(digest, b[index]?.digest ?? NONE) === 0)
  );
}

async function projectLives(db: Kysely<Schema>, id: string): Promise<boolean> {
  return (await liveProject(db, id)) !== undefined;
}

async function tokenExists(transaction: Transaction<Schema>, project: string, id: string): Promise<boolean> {
  const token = transaction.selectFrom("tokens").select("id").where("project", "=", project).where("id", "=", id);
  return (await token.executeTakeFirst()) !== undefined;
}

function settingColumns(settings: StoreSettings) {
  return { secrets: settings.secrets, max_versions: settings.maxVersions };
}

function toProject(row: Selectable<Schema["projects"]>): Project {
  return { id: row.id, createdAt: row.created_at, ...toQuotas(row) };
}

function toStore(row: StoreRow): Store {
  return { id: row.id, createdAt: row.created_at, secrets: row.secrets, maxVersions: row.max_versions };
}
