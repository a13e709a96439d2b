/** A world of records worth backing up, backups of it, and what they come to when they are restored. */

import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { onTestFinished } from "vitest";

import { openBackupDirectory } from "../../src/backup/backup-directory.js";
import { encodeRecord } from "../../src/backup/format.js";
import { openBackup, type OpenBackupOptions } from "../../src/backup/open-backup.js";
import { requireKeys, restoreBackup } from "../../src/backup/restore.js";
import { snapshotSource, type RecordSource } from "../../src/backup/source.js";
import { writeBackup, type BackupSummary } from "../../src/backup/write-backup.js";
import { openRestoreDirectory } from "../../src/data-directory.js";
import { KeyProviders } from "../../src/envelope/key-providers.js";
import type { KeyProvider } from "../../src/envelope/key-provider.js";
import type { Database } from "../../src/storage/database.js";
import type { Snapshot } from "../../src/storage/snapshot.js";
import { openSqliteSnapshot } from "../../src/storage/sqlite.js";
import { openWorld as openEnvelope, refTo, writeOf, type World } from "../envelope/world.js";
import { newToken } from "../storage/world.js";

export const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/** Clock of restores, milliseconds since the epoch. */
const NOW = 1_900_000_000_000;

/**
 * Two projects, one of them destroyed; three stores, one of them destroyed; tokens that minted each other; and records of
 * one to three versions, one protected, one with versions that are not kept any more.
 */
export async function openWorld(): Promise<World & { ids: Uint8Array[] }> {
  const world = await openEnvelope();
  const { directory, records, addStore } = world;
  await addStore("default", "zeta");
  await addStore("default", "gone");
  await addStore("dead", "store");
  const ids = Array.from({ length: 4 }, () => randomBytes(32));
  for (const [index, id] of ids.entries()) {
    for (let version = 1; version <= (index % 3) + 1; version++) {
      await records.commit([writeOf(refTo(id), version, randomBytes(120 + index))]);
    }
  }
  const [first = randomBytes(32)] = ids;
  const state = { version: 1, protected: true, active: true };
  await records.commit([{ ref: refTo(first), expect: { ...state, protected: false }, next: state, keepVersions: 10 }]);
  const pruned = { ...writeOf(refTo(first, "default", "zeta"), 2, randomBytes(90)), keepVersions: 1 };
  await records.commit([writeOf(refTo(first, "default", "zeta"), 1, randomBytes(90))]);
  await records.commit([pruned]);
  await records.commit([writeOf(refTo(first, "default", "gone"), 1, randomBytes(90))]);
  await records.commit([writeOf(refTo(first, "dead", "store"), 1, randomBytes(90))]);
  await directory.destroyStore("default", "gone", 9);
  await directory.destroyProject("dead", 9);
  // In the order of their ids each comes before the one that minted it.
  for (const [id, mintedBy] of [
    ["c", null],
    ["b", "c"],
    ["a", "b"],
  ] as const) {
    await directory.createToken(newToken(id, { project: "default", name: `Schlüssel ${id}`, mintedBy }));
  }
  const store = { project: "default", store: "zeta" };
  await directory.replaceSecretChecks(store.project, store.store, [], [{ digest: randomBytes(32), createdAt: 7 }]);
  await directory.setSetting("something", "kept");
  return { ...world, ids };
}

/** A fresh folder, removed when the test ends. */
export async function freshFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "tacenda-backup-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Backs the world up as the command does. */
export async function backUp(world: Pick<World, "file">, target: string): Promise<BackupSummary> {
  const snapshot = await openSqliteSnapshot(world.file);
  try {
    const directory = await openBackupDirectory(target);
    try {
      return await writeBackup({ snapshot, takenAt: new Date(), directory });
    } finally {
      await directory.close();
    }
  } finally {
    await snapshot.close();
  }
}

/** Restores as the command does; `meddle` may change what the database does. */
export async function restore(
  options: OpenBackupOptions & { provider: KeyProvider; dataDir: string; meddle?: (database: Database) => void },
) {
  const { provider, dataDir, meddle } = options;
  const backup = await openBackup(options);
  try {
    await requireKeys(backup, KeyProviders.forUnwrapping([provider]));
    const { database, close } = await openRestoreDirectory(dataDir, SILENT);
    try {
      meddle?.(database);
      return {
        ...(await restoreBackup({ backup, database, name: `the database in ${dataDir}`, now: NOW })),
        destroyed: backup.destroyed,
      };
    } finally {
      await close();
    }
  } finally {
    await backup.close();
  }
}

/** Everything a source holds, as text that can be compared. */
export async function contentsOf(source: RecordSource): Promise<string[]> {
  const contents: string[] = [];
  for await (const found of source.records()) {
    contents.push(encodeRecord(found.record));
    for await (const body of found.bodies()) contents.push(Buffer.from(body).toString("hex"));
  }
  for (const { wrapped, ...key } of source.keys) {
    contents.push(JSON.stringify({ ...key, wrapped: Buffer.from(wrapped).toString("hex") }));
  }
  return contents;
}

/** The same of a database, its other tables included. */
export async function databaseContents(file: string): Promise<string[]> {
  return await snapshotContents(await openSqliteSnapshot(file));
}

/** The same of a snapshot, which it closes; `more`: tables that a backup leaves out. */
export async function snapshotContents(
  snapshot: Snapshot,
  more: readonly ("retired_master_keys" | "reencryptions")[] = [],
): Promise<string[]> {
  try {
    const contents = await contentsOf(await snapshotSource(snapshot));
    for (const table of ["projects", "stores", "secret_checks", "tokens", "grants", "settings", ...more] as const) {
      for await (const row of snapshot.rows(table)) contents.push(`${table} ${JSON.stringify(row)}`);
    }
    return contents;
  } finally {
    await snapshot.close();
  }
}

/** The same of a finished backup, but for other tables. */
export async function backupContents(directory: string): Promise<string[]> {
  const backup = await openBackup({ directory });
  try {
    return await contentsOf(backup);
  } finally {
    await backup.close();
  }
}
