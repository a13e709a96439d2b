/** A database worth moving, places to move it to, and a way to damage what is there. */

import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";

import BetterSqlite3 from "better-sqlite3";
import { onTestFinished, vi } from "vitest";

import { copy, type CopyFlags } from "../../src/cli/copy.js";
import { copyDatabase, type CopySummary } from "../../src/copy/copy-database.js";
import type { DatabasePlace } from "../../src/database-place.js";
import { addDataKey } from "../../src/keys/data-keys.js";
import { reencrypt } from "../../src/keys/reencrypt.js";
import { placeNamed } from "../../src/named-place.js";
import { makeOwnDirectory } from "../../src/own-directory.js";
import type { Snapshot } from "../../src/storage/snapshot.js";
import { refTo, writeOf } from "../envelope/world.js";
import { SILENT, freshFolder, openWorld as openBackupWorld, snapshotContents } from "../backup/world.js";
import { postgresWorld } from "../storage/postgres-world.js";

/** A database as --from and --to name it. */
export interface Side {
  text: string;
  place: DatabasePlace;
  /** Makes what the database is to be in. */
  prepare(): Promise<void>;
  /** Runs statements past everything; `flip(bytes)` gives the bytes with one bit changed. */
  exec(sql: string): Promise<void>;
  /** A copy of it as it is, past everything. */
  clone(): Promise<Side>;
  /** Everything it holds that a copy has. */
  contents(): Promise<string[]>;
}

/**
 * What backups are tested with, and besides a store whose re-encryption was interrupted, a retired master key, and versions
 * whose rows wait to be purged; in a data directory that no server uses.
 */
export async function openWorld() {
  const world = await openBackupWorld();
  const { database, keys, records, raw, addStore } = world;
  await addStore("default", "turning");
  const ref = { project: "default", store: "turning" };
  const ids = Array.from({ length: 300 }, () => randomBytes(32));
  for (const part of [ids.slice(0, 150), ids.slice(150)]) {
    await records.commit(part.map((id) => writeOf(refTo(id, ref.project, ref.store), 1, randomBytes(80))));
  }
  const services = { keys: database.keys, storeKeys: keys, maintenance: database.maintenance, now: Date.now };
  await addDataKey(services, ref, 2);
  await database.keys.beginReencryption(ref, 1);
  let steps = 1;
  for (const one of await database.keys.reencryptions()) {
    await reencrypt(services, one, () => Promise.resolve(steps-- > 0));
  }
  raw.exec(`
    insert into retired_master_keys values ('local:other', 3, 1700000000000);
    update records set kept_from = 3 where version = 3;
    insert into purges select project, store, record_id from records where version = 3;
    insert into leases values ('somebody', 'else', 9000000000000)`);
  const folder = await freshFolder();
  await mkdir(join(folder, "data"), { mode: 0o700 });
  raw.exec(`vacuum into '${join(folder, "data", "tacenda.db")}'`);
  return { ...world, source: sqliteSide(join(folder, "data")), keyringFile: join(world.folder, "keyring.json") };
}

/** A data directory. */
export function sqliteSide(directory: string): Side {
  const { place } = placeNamed(directory, "--to", "tests");
  return {
    text: directory,
    place,
    prepare: () => makeOwnDirectory(directory, SILENT),
    exec(sql) {
      const raw = new BetterSqlite3(join(directory, "tacenda.db"));
      raw.function("flip", (bytes: unknown) => flipped(bytes as Buffer));
      raw.exec(sql);
      raw.close();
      return Promise.resolve();
    },
    async clone() {
      const folder = join(await freshFolder(), "clone");
      await cp(directory, folder, { recursive: true });
      return sqliteSide(folder);
    },
    contents: () => contentsOf(place),
  };
}

/** One that is not there yet. */
export async function freshDirectory(): Promise<Side> {
  return sqliteSide(join(await freshFolder(), "new", "data"));
}

const { cluster, drop } = await postgresWorld();
export const hasPostgres = cluster !== null;

/** An empty database. */
export async function freshPostgres(): Promise<Side> {
  return postgresSide((await cluster?.createDatabase()) ?? "");
}

function postgresSide(url: string): Side {
  onTestFinished(() => drop(url));
  const { place } = placeNamed(url, "--to", "tests");
  return {
    text: url,
    place,
    prepare: () => Promise.resolve(),
    async exec(sql) {
      const flip = `create or replace function flip(bytes bytea) returns bytea language sql immutable
        as 'select set_byte(bytes, 20, get_byte(bytes, 20) # 1)';`;
      await cluster?.query(flip + sql, url);
    },
    clone: async () => postgresSide((await cluster?.createDatabase(url)) ?? ""),
    contents: () => contentsOf(place),
  };
}

/** Which kinds of places there are on this machine. */
export const KINDS: readonly (readonly [name: string, fresh: () => Promise<Side>])[] = [
  ["SQLite", freshDirectory],
  ...(hasPostgres ? [["PostgreSQL", freshPostgres] as const] : []),
];

/** Copies, but does not end the copy: as if it was killed just before. `snapshot` instead of the source as it is now. */
export async function copyHalf(source: Side, target: Side, snapshot?: Snapshot): Promise<CopySummary> {
  await target.prepare();
  const { database, close } = await target.place.openForRestore();
  const state = snapshot ?? (await source.place.openSnapshot());
  try {
    const { place } = target;
    const openTarget = () => place.openSnapshot();
    return await copyDatabase({ snapshot: state, target: database, targetName: place.name, openTarget });
  } finally {
    await state.close();
    await close();
  }
}

/** Runs the command as the program does, and gives its exit code and what it wrote. */
export async function runCopy(
  from: Side,
  to: Side,
  flags: Partial<CopyFlags>,
): Promise<{ code: number; output: string }> {
  let output = "";
  const spies = [process.stdout, process.stderr].map((stream) =>
    vi.spyOn(stream, "write").mockImplementation((text: unknown) => {
      output += String(text);
      return true;
    }),
  );
  try {
    return { code: await copy({ from: from.text, to: to.text, dataDir: "/nowhere", ...flags }), output };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

export function isThere({ text }: Side): boolean {
  return existsSync(join(text, "tacenda.db"));
}

function flipped(bytes: Buffer): Buffer {
  const other = Buffer.from(bytes);
  other[20] = (other[20] ?? 0) ^ 1;
  return other;
}

async function contentsOf(place: DatabasePlace): Promise<string[]> {
  return await snapshotContents(await place.openSnapshot(), ["retired_master_keys", "reencryptions"]);
}
