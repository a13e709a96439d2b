/** `tacenda-server verify`: opens everything in a data directory, or in a backup; spec/envelope.md § Verifying. */

import { resolve } from "node:path";

import { placeOf, snapshotSource, type RecordSource } from "../backup/source.js";
import { verify as verifySource } from "../backup/verify.js";
import { counted } from "../counted.js";
import { nameOfData, openDataSnapshot } from "../data-directory.js";
import { InvalidOptionError } from "../startup-error.js";
import { openKeyProviders, type KeyFlags } from "./key-provider.js";
import type { DatabaseFlags } from "./options.js";
import { startProgress } from "./progress.js";
import { describeDestroyed, openChecked } from "./restore.js";

export interface VerifyFlags extends KeyFlags, DatabaseFlags {
  backup?: string;
  keys?: string;
}

/** Resolves with the exit code: 1 when anything does not open. */
export async function verify(flags: VerifyFlags): Promise<number> {
  if (flags.keys !== undefined && flags.backup === undefined) {
    throw new InvalidOptionError("--keys goes with --backup: a data directory has its own keys.");
  }
  const providers = await openKeyProviders(flags);
  const { name, source, close } = await openSource(flags);
  const progress = startProgress("verifying");
  try {
    const onDamage = (what: string) => process.stdout.write(`${what}\n`);
    const onProgress = (done: number, total: number) => progress.update(done, total);
    const { stores, keys, records, versions, damaged } = await verifySource({
      source,
      providers,
      onDamage,
      onProgress,
    });
    progress.stop();
    process.stdout.write(
      `Checked ${name}: ${counted(stores, "store")}, ${counted(keys, "wrapped key")}, ${counted(records, "record")}, ` +
        `${counted(versions, "version")}: ` +
        (damaged === 0 ? "everything opens.\n" : `${damaged} damaged, named above.\n`),
    );
    return damaged === 0 ? 0 : 1;
  } finally {
    progress.stop();
    await close();
    await providers.close();
  }
}

async function openSource({
  dataDir,
  databaseUrl,
  backup,
  keys,
}: VerifyFlags): Promise<{ name: string; source: RecordSource; close: () => Promise<void> }> {
  if (backup !== undefined) {
    const source = await openChecked(backup, keys);
    for (const store of source.destroyed) process.stdout.write(`${describeDestroyed(placeOf(store))}\n`);
    return { name: `the backup in ${resolve(backup)}`, source, close: () => source.close() };
  }
  const snapshot = await openDataSnapshot(dataDir, { databaseUrl });
  const close = () => snapshot.close();
  try {
    return { name: nameOfData(dataDir, { databaseUrl }), source: await snapshotSource(snapshot), close };
  } catch (error) {
    await snapshot.close();
    throw error;
  }
}
