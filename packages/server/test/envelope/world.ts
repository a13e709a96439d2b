/** A real database, keyring and envelope in a fresh folder, with a second connection to damage the rows. */

import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import BetterSqlite3 from "better-sqlite3";
import { onTestFinished } from "vitest";

import { EnvelopeStore } from "../../src/envelope/envelope-store.js";
import { KeyProviders } from "../../src/envelope/key-providers.js";
import { openKeyring } from "../../src/envelope/providers/local-keyring.js";
import { StoreKeys, type StoreKeysOptions } from "../../src/envelope/store-keys.js";
import type { RecordRef, WriteOperation } from "../../src/storage/record-store.js";
import { openSqlite } from "../../src/storage/sqlite.js";

export type World = Awaited<ReturnType<typeof openWorld>>;

/** With the project and store "default" and "user-tokens". Everything is closed and removed when the test ends. */
export async function openWorld(options: Partial<StoreKeysOptions> = {}) {
  const folder = await mkdtemp(join(tmpdir(), "tacenda-envelope-"));
  const file = join(folder, "records.db");
  const keyring = await openKeyring(join(folder, "keyring.json"), { create: true });
  const database = await openSqlite(file);
  const raw = new BetterSqlite3(file);
  onTestFinished(async () => {
    raw.close();
    await database.close();
    await rm(folder, { recursive: true });
  });
  const { directory } = database;
  // No rest after failures: tests mend what they break at once.
  const providers = new KeyProviders([keyring], directory, { rest: 0 });

  /** As another server on the same database would have it. */
  const serve = (others: Partial<StoreKeysOptions> = {}) => {
    const keys = new StoreKeys({ directory: database.keys, providers, ...options, ...others });
    return { keys, records: new EnvelopeStore(database.records, keys) };
  };
  const { keys, records } = serve();

  const addStore = async (project: string, store: string) => {
    await directory.createProject({ id: project, createdAt: 1 });
    const settings = { id: store, createdAt: 1, secrets: "one", maxVersions: 10 } as const;
    return directory.createStore(project, settings, await keys.createKeys(project, store, 1));
  };
  await addStore("default", "user-tokens");

  /** The 32 bytes of a store key, unwrapped past all that is under test but the keyring. */
  const storeKey = async (purpose: "index" | "data", version = 1, project = "default", store = "user-tokens") => {
    const wrapped = (await database.keys.wrappedKeys(project, store)).find(
      (key) => key.purpose === purpose && key.version === version,
    );
    if (wrapped === undefined) throw new Error("There is no such store key.");
    return keyring.unwrap(wrapped, { project, store, purpose, version });
  };

  /** A new data key for new writes, as another server would commit it. */
  const rotateDataKey = async (version: number, project = "default", store = "user-tokens") => {
    const { wrapped } = await keyring.wrap(randomBytes(32), { project, store, purpose: "data", version });
    raw.transaction(() => {
      raw
        .prepare("update store_keys set state = 'retired' where project = ? and store = ? and purpose = 'data'")
        .run(project, store);
      raw
        .prepare("insert into store_keys values (?, ?, 'data', ?, 'active', ?, 1, ?, 1)")
        .run(project, store, version, keyring.id, wrapped);
    })();
  };

  return {
    folder,
    file,
    keyring,
    providers,
    database,
    directory,
    raw,
    keys,
    records,
    serve,
    addStore,
    storeKey,
    rotateDataKey,
  };
}

/** A record of the store that every world has, or another. */
export function refTo(id: Uint8Array, project = "default", store = "user-tokens"): RecordRef {
  return { project, store, id };
}

/** The write of one more version, unprotected and active before and after. */
export function writeOf(ref: RecordRef, version: number, body: Uint8Array): WriteOperation {
  const state = { protected: false, active: true };
  return {
    ref,
    expect: version === 1 ? null : { version: version - 1, ...state },
    next: { version, ...state },
    write: { body, expiresAt: 0, createdAt: 1_000 + version },
    keepVersions: 10,
  };
}
