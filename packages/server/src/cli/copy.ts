/** `tacenda-server copy`: moves a database to another place, of another kind or the same; spec/envelope.md § Copying. */

import { randomBytes } from "node:crypto";
import { join } from "node:path";

import { BackupError } from "../backup/errors.js";
import { snapshotSource } from "../backup/source.js";
import { requireWholeKeys } from "../backup/store-keys.js";
import { verify } from "../backup/verify.js";
import { compareDatabases } from "../copy/compare.js";
import { copyDatabase, type Copy } from "../copy/copy-database.js";
import { CopyError } from "../copy/errors.js";
import { closeSource, holdSource, type SourceGuard } from "../copy/guard-source.js";
import { counted } from "../counted.js";
import { openWholeSnapshot, type DatabasePlace, type HeldDatabase, type Hold } from "../database-place.js";
import type { KeyProviders } from "../envelope/key-providers.js";
import { placeNamed, type NamedPlace } from "../named-place.js";
import { makeOwnDirectory } from "../own-directory.js";
import { NewerDatabaseError, OlderDatabaseError, type Database } from "../storage/database.js";
import { DataDirectoryLockedError } from "../storage/lock.js";
import type { Snapshot } from "../storage/snapshot.js";
import { describeKept } from "./backup.js";
import { openKeyProviders, type KeyFlags } from "./key-provider.js";
import { createLogger } from "./process.js";
import { startProgress } from "./progress.js";

export interface CopyFlags extends KeyFlags {
  /** A data directory or a URL, as `to`. */
  from: string;
  to: string;
  closeSource?: boolean;
  ignoreConnections?: boolean;
}

interface Sides {
  source: DatabasePlace;
  target: DatabasePlace;
}

/** Resolves with the exit code: 1 when the two are not the same in the end, or anything does not open. */
export async function copy(flags: CopyFlags): Promise<number> {
  const program = `tacenda-copy-${randomBytes(4).toString("hex")}`;
  const from = placeNamed(flags.from, "TACENDA_COPY_FROM (or --from)", program);
  const to = placeNamed(flags.to, "TACENDA_COPY_TO (or --to)", program);
  const sides = { source: from.place, target: to.place };
  if (from.place.name === to.place.name) throw new CopyError(`--from and --to are the same: ${from.place.name}.`);
  // Whether there is anything to copy, before anything is made.
  await (await of(from.place, () => openWholeSnapshot(from.place))).close();
  const hold = await of(from.place, () => from.place.hold());
  try {
    if (flags.ignoreConnections !== true) await hold.refuseOthers();
    const providers = await openKeyProviders(withKeyring(flags, from, to));
    try {
      await requireKeys(from.place, providers);
      const { database, close } = await openTarget(to);
      try {
        return await copyAndCheck(sides, { hold, providers, database, flags });
      } finally {
        await close();
      }
    } finally {
      await providers.close();
    }
  } finally {
    hold.release();
  }
}

/** The keyring that is named, or that of the directory which has one. */
function withKeyring(flags: CopyFlags, from: NamedPlace, to: NamedPlace): KeyFlags {
  if (flags.keyring !== undefined) return flags;
  return { ...flags, keyring: join(from.directory ?? to.directory ?? flags.dataDir, "keyring.json") };
}

async function requireKeys(source: DatabasePlace, providers: KeyProviders): Promise<void> {
  const snapshot = await openWholeSnapshot(source);
  try {
    await requireWholeKeys((await snapshotSource(snapshot)).keys, providers, "copied");
  } finally {
    await snapshot.close();
  }
}

async function openTarget({ place, directory }: NamedPlace): Promise<HeldDatabase> {
  const logger = createLogger("warn", 2);
  if (directory !== null) await makeOwnDirectory(directory, logger);
  await new Promise<void>((done) => logger.flush(() => done()));
  return await of(place, () => place.openForRestore());
}

interface Work {
  hold: Hold;
  providers: KeyProviders;
  database: Database;
  flags: CopyFlags;
}

async function copyAndCheck(sides: Sides, { hold, providers, database, flags }: Work): Promise<number> {
  const { source, target } = sides;
  try {
    const copied = await copyAll(sides, database);
    const { stores, records, versions, kept } = copied;
    process.stdout.write(
      `Copied ${counted(stores, "store")}, ${counted(records, "record")}, ${counted(versions, "version")} from ${source.name} to ` +
        `${target.name}\n${describeKept(kept)}`,
    );
    return await checkAndEnd(sides, { hold, providers, flags, copied });
  } catch (error) {
    // These say by themselves what to do.
    if (!(error instanceof CopyError || error instanceof BackupError)) {
      process.stderr.write("The copy is not finished. Run the same command again: it goes on where it stopped.\n");
    }
    throw error;
  }
}

/** What is compared stays as it is until the end: the guard comes first. */
async function checkAndEnd(
  sides: Sides,
  { hold, providers, flags, copied }: Omit<Work, "database"> & { copied: Copy },
): Promise<number> {
  const { source, target } = sides;
  const closes = flags.closeSource === true;
  const guard = closes ? await closeSource(source, target, hold) : await holdSource(hold);
  let isEnding = false;
  try {
    // Those of whom this says to stop them are better heard of before hours of comparing.
    if (flags.ignoreConnections !== true) await hold.refuseOthers();
    if (!(await areEqual(sides))) {
      process.stdout.write(
        "The two are not the same, and no server serves the target. Run the same command again: what was changed in the source " +
          "since is copied then. What still differs after that is damaged in the target: copy into another place.\n",
      );
      await giveUp(sides, guard);
      return 1;
    }
    const damaged = await openAll(target, providers);
    // To a closed one nobody writes, whoever is connected.
    if (flags.ignoreConnections !== true && !closes) await hold.refuseOthers();
    await guard.settle();
    isEnding = true;
    await copied.end();
    process.stdout.write(describeEnd(sides, closes, damaged));
    return damaged === 0 ? 0 : 1;
  } catch (error) {
    // Of an end that failed it may not be known whether servers start on the target from now on.
    await giveUp(sides, isEnding && closes ? null : guard);
    throw error;
  } finally {
    await guard.release();
  }
}

/** Null: nothing is to be undone. Never throws, for there is something else to tell. */
async function giveUp({ source }: Sides, guard: SourceGuard | null): Promise<void> {
  const outcome = await guard?.undo().catch(() => undefined);
  if (outcome === "as it was") return;
  process.stderr.write(
    outcome === "opened"
      ? `Servers start on ${source.name} again.\n`
      : `${source.name} may be closed now. To serve it after all, as long as nobody serves the copy: tacenda-server reopen.\n`,
  );
}

async function copyAll({ source, target }: Sides, database: Database): Promise<Copy> {
  return await withSnapshot(source, "copying", (snapshot, onProgress) =>
    copyDatabase({
      snapshot,
      target: database,
      targetName: target.name,
      openTarget: () => target.openSnapshot(),
      onProgress,
    }),
  );
}

/** Looks at the source anew: whatever was written to it since the copy began is a difference. */
async function areEqual({ source, target }: Sides): Promise<boolean> {
  return await withSnapshot(target, "comparing", async (copied, onProgress) => {
    const snapshot = await source.openSnapshot();
    try {
      const onDifference = (what: string) => process.stdout.write(`${what}\n`);
      const { rows, differences, digest } = await compareDatabases({
        source: snapshot,
        target: copied,
        onDifference,
        onProgress,
      });
      if (differences > 0) return false;
      process.stdout.write(`Compared ${counted(rows, "row")}: both hold the same (SHA-256 ${digest}).\n`);
      return true;
    } finally {
      await snapshot.close();
    }
  });
}

/** How many things do not open. */
async function openAll(target: DatabasePlace, providers: KeyProviders): Promise<number> {
  return await withSnapshot(target, "opening", async (snapshot, onProgress) => {
    const onDamage = (what: string) => process.stdout.write(`${what}\n`);
    const source = await snapshotSource(snapshot);
    const { keys, records, versions, damaged } = await verify({ source, providers, onDamage, onProgress });
    process.stdout.write(
      `Opened ${counted(keys, "wrapped key")}, ${counted(records, "record")}, ${counted(versions, "version")}: ` +
        (damaged === 0 ? "everything opens.\n" : `${damaged} damaged, named above, and in the source as well.\n`),
    );
    return damaged;
  });
}

function describeEnd({ source, target }: Sides, isClosed: boolean, damaged: number): string {
  return (
    `${damaged === 0 ? "" : "The copy is true all the same. "}Serve ${target.name}, with the same keyring or key providers.\n` +
    (isClosed
      ? `No server starts on ${source.name} any more (tacenda-server reopen takes that back).\n`
      : `Up to now nothing was written to ${source.name}, but nothing keeps servers from it: start none, for what it gets from now on is missing in the copy (--close-source sees to that).\n`)
  );
}

/** Gives `work` a snapshot and where to tell how far it has come. */
async function withSnapshot<T>(
  place: DatabasePlace,
  label: string,
  work: (snapshot: Snapshot, onProgress: (done: number, total: number) => void) => Promise<T>,
): Promise<T> {
  const progress = startProgress(label);
  try {
    const snapshot = await place.openSnapshot();
    try {
      return await work(snapshot, (done, total) => progress.update(done, total));
    } finally {
      await snapshot.close();
    }
  } finally {
    progress.stop();
  }
}

/** Of two databases, which one an error is about. */
async function of<T>({ name }: DatabasePlace, open: () => T | Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    if (error instanceof DataDirectoryLockedError) {
      throw new CopyError(`Another Tacenda server, or a command, uses ${name}. Stop it first.`, { cause: error });
    }
    if (error instanceof NewerDatabaseError || error instanceof OlderDatabaseError) {
      throw new CopyError(`Of ${name}: ${error.message}`, { cause: error });
    }
    throw error;
  }
}
