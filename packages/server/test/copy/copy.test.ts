/** A copy is the database that was copied, whatever kinds the two are of and wherever it was cut off; spec/envelope.md § Copying. */

import { randomBytes } from "node:crypto";

import { describe, expect, test } from "vitest";

import { copyDatabase, endCopy } from "../../src/copy/copy-database.js";
import { openForServing, openWholeSnapshot } from "../../src/database-place.js";
import { openSqliteSnapshot } from "../../src/storage/sqlite.js";
import type { Restoration } from "../../src/storage/restoration.js";
import type { Snapshot } from "../../src/storage/snapshot.js";
import { snapshotContents } from "../backup/world.js";
import { refTo, writeOf } from "../envelope/world.js";
import { KINDS, freshDirectory, freshPostgres, hasPostgres, openWorld, runCopy, type Side } from "./world.js";

class Killed extends Error {}

/**
 * Lets `count` calls through and then does no more, as if killed: before the last one is carried out, or after it, when nobody
 * hears of it any more.
 */
function killAfter(restoration: Restoration, count: number, isCarriedOut: boolean): void {
  let left = count;
  const guard =
    <Args extends unknown[]>(work: (...args: Args) => Promise<void>) =>
    async (...args: Args) => {
      if (--left > 0 || (left === 0 && isCarriedOut)) await work(...args);
      if (left <= 0) throw new Killed();
    };
  restoration.commit = guard(restoration.commit.bind(restoration));
  restoration.clearRows = guard(restoration.clearRows.bind(restoration));
}

interface Attempt {
  snapshot: Snapshot;
  target: Side;
  /** Calls that change the target after which it is killed. */
  kill?: { after: number; isCarriedOut: boolean };
}

/** Copies as the command does, up to the comparison. */
async function attempt({ snapshot, target, kill }: Attempt) {
  await target.prepare();
  const { database, close } = await target.place.openForRestore();
  try {
    if (kill) killAfter(database.restoration, kill.after, kill.isCarriedOut);
    const { place } = target;
    const openTarget = () => place.openSnapshot();
    return await copyDatabase({ snapshot, target: database, targetName: place.name, openTarget });
  } finally {
    await close();
  }
}

async function end(target: Side): Promise<void> {
  const { database, close } = await target.place.openForRestore();
  await endCopy(database);
  await close();
}

test.runIf(hasPostgres)("from kind to kind, and back, everything is as it was", async () => {
  const { source, keyringFile: keyring } = await openWorld();
  const expected = await source.contents();
  const sides = [source, await freshPostgres(), await freshPostgres(), await freshDirectory(), await freshDirectory()];
  const digests = new Set<string>();
  for (const [index, to] of sides.entries()) {
    const from = sides[index - 1];
    if (from === undefined) continue;
    const { code, output } = await runCopy(from, to, { keyring });
    expect(output).toContain("Copied 3 stores, 305 records, 306 versions from the ");
    expect(output).toContain("everything opens.");
    expect(code).toBe(0);
    digests.add(/SHA-256 ([0-9a-f]{64})/.exec(output)?.[1] ?? "");
    expect(await to.contents()).toEqual(expected);
  }
  // They do not depend on the kind of database.
  expect(digests.size).toBe(1);
  // And what is of one running database alone has stayed there.
  expect(expected.filter((row) => row.includes("ended_at"))).toHaveLength(1);
  const held = await openForServing(sides[4]?.place ?? source.place);
  expect(await held.database.maintenance.acquireLease({ name: "somebody", owner: "new" }, 1)).toBe(true);
  await held.close();
});

describe.each(KINDS)("a copy to %s", (_, fresh) => {
  test("that was cut off at any change of the target is of no use until it is finished, and then complete", async () => {
    const { source } = await openWorld();
    const expected = await source.contents();
    const target = await fresh();
    let kills = 0;
    for (let isDone = false; !isDone; kills++) {
      const snapshot = await source.place.openSnapshot();
      // Every run comes a little further than the one before, so that each change is met by some kill.
      const kill = { after: Math.floor(kills / 2) + 1, isCarriedOut: kills % 2 === 1 };
      isDone = await attempt({ snapshot, target, kill }).then(
        () => true,
        (error: unknown) => {
          expect(error).toBeInstanceOf(Killed);
          return false;
        },
      );
      await snapshot.close();
      // The very first one was killed before anything was noted.
      if (kills === 0) continue;
      await expect(openForServing(target.place)).rejects.toThrow("is half copied");
      await expect(openWholeSnapshot(target.place)).rejects.toThrow("Run the same copy again");
    }
    expect(kills).toBeGreaterThan(8);
    await end(target);
    expect(await target.contents()).toEqual(expected);
    await (await openWholeSnapshot(target.place)).close();
  });

  test("that was cut off while the source went on is of the source as it is in the end", async () => {
    const world = await openWorld();
    const { raw, records, directory, addStore, ids, file } = world;
    const target = await fresh();
    const states: (() => Promise<unknown>)[] = [
      () => records.commit([writeOf(refTo(ids[1] ?? randomBytes(32)), 3, randomBytes(200))]),
      () => records.commit([writeOf(refTo(randomBytes(32)), 1, randomBytes(70))]),
      () => directory.deleteToken("default", "b"),
      () =>
        Promise.resolve(
          raw.exec("delete from record_versions where store = 'zeta'; delete from records where store = 'zeta'"),
        ),
      () => directory.destroyStore("default", "turning", 12),
      () => addStore("default", "aaa"),
      () => directory.setSetting("something", "else"),
      () => records.commit([writeOf(refTo(randomBytes(32), "default", "aaa"), 1, randomBytes(70))]),
    ];
    for (const [index, change] of states.entries()) {
      const snapshot = await openSqliteSnapshot(file);
      const kill = { after: 2 + (index % 3), isCarriedOut: index % 2 === 0 };
      await expect(attempt({ snapshot, target, kill })).rejects.toThrow(Killed);
      await snapshot.close();
      await change();
    }
    const snapshot = await openSqliteSnapshot(file);
    const { kept, records: count } = await attempt({ snapshot, target });
    await snapshot.close();
    expect([count, kept]).toEqual([6, 5]);
    await end(target);
    const expected = await snapshotContents(await openSqliteSnapshot(file), ["retired_master_keys", "reencryptions"]);
    expect(await target.contents()).toEqual(expected);
  });
});
