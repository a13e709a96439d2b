/**
 * A backup made while eight writers write, killed a few times and run again, restored elsewhere, on the same kind of database or the
 * other, and read: everything that was acknowledged before is there, and batches are whole. What is missing or wrong is refused,
 * and named. TACENDA_BACKUP_ROUNDS says how often.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";

import { TacendaAdmin } from "@tacenda/sdk/admin";
import { describe, expect, test } from "vitest";

import { seedServer, type Edit } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder, spawnServer } from "../server-process.ts";
import { ROOT_TOKEN, WRITERS, backUpUnderLoad, openWorld, restoreAndRead, runOn, type World } from "./backup-trial.ts";
import { DATABASES, freshPlace, type DatabaseName, type Place } from "./databases.ts";
import { reportBug, reportTrials } from "./report.ts";
import { BACKUP_AT_READ_COMMITTED, BACKUP_WITHOUT_SNAPSHOT } from "./seeded-bugs.ts";

const ROUNDS = Number(process.env.TACENDA_BACKUP_ROUNDS ?? 1);
const BALLAST = 500;
/** From where, to where, and how often the backup is killed. In the short form the whole of it is done once. */
const ROUTES: readonly { from: DatabaseName; to: DatabaseName; kills: number; whole: boolean }[] =
  ROUNDS > 1
    ? DATABASES.flatMap((from) => DATABASES.map((to) => ({ from, to, kills: 3, whole: true })))
    : [
        { from: "SQLite", to: "SQLite", kills: 3, whole: true },
        { from: "SQLite", to: "PostgreSQL", kills: 1, whole: false },
        { from: "PostgreSQL", to: "SQLite", kills: 1, whole: false },
      ];
/** For a round, on a machine that has much else to do. */
const ROUND_LIMIT = 240_000;

/** Everything that the commands say opens, does. */
async function verifyAll({ place, keyring }: World, restored: Place, target: string): Promise<void> {
  for (const [on, args] of [
    [place, []],
    [restored, ["--keyring", keyring]],
    [restored, ["--backup", target, "--keyring", keyring]],
  ] as const) {
    const { code, output } = await runOn(on, ["verify", ...args]);
    expect(output).toContain("everything opens");
    expect(code).toBe(0);
  }
}

type Refused = readonly [on: Place, args: readonly string[], sentence: string];

async function refuse(all: readonly Refused[]): Promise<void> {
  for (const [on, args, sentence] of all) {
    const { code, output } = await runOn(on, args);
    expect(output).toContain(sentence);
    expect(output).toMatch(/^tacenda-server: [^\n{]*\n$/);
    expect(code).not.toBe(0);
  }
}

/** Without the keyring, and with another one: and nothing is made then. */
async function refuseKeyrings({ folder }: World, target: string, to: DatabaseName): Promise<void> {
  const elsewhere = await freshPlace(to);
  const other = join(folder, "other");
  await (await spawnServer({ dataDir: other })).end("SIGTERM");
  const otherKeyring = join(other, "keyring.json");
  await refuse([
    [elsewhere, ["restore", target], `There is no keyring at ${join(elsewhere.dataDir, "keyring.json")}`],
    [elsewhere, ["restore", target, "--keyring", otherKeyring], "This is another keyring: it is local:"],
  ]);
  expect(existsSync(elsewhere.dataDir)).toBe(false);
}

/** Into a place that is taken, over a finished backup, inside of what is backed up, and of nothing. */
async function refusePlaces({ place, keyring, folder }: World, target: string, taken: Place): Promise<void> {
  const nowhere = { dataDir: join(folder, "nowhere"), env: {}, databaseUrl: null };
  await refuse([
    [taken, ["restore", target, "--keyring", keyring], "There is something in the "],
    [place, ["backup", target], "holds a finished backup"],
    [place, ["backup", join(place.dataDir, "inside")], "A backup inside the data directory is lost with it"],
    [nowhere, ["backup", join(folder, "none")], "There is no database in"],
  ]);
}

/** Of a store that was destroyed since, records do not open with the present keys; all others do. */
async function shred({ place, keyring, folder, url }: World, target: string, to: DatabaseName): Promise<void> {
  await new TacendaAdmin({ url, token: ROOT_TOKEN }).stores.delete("doomed");
  const newer = join(folder, "newer");
  expect((await runOn(place, ["backup", newer])).code).toBe(0);
  const keys = ["--keys", join(newer, "keys.jsonl"), "--keyring", keyring];
  const shredded = await runOn(await freshPlace(to), ["restore", target, ...keys]);
  expect(shredded.output).toContain("Store default/doomed has no keys");
  expect(shredded.output).toContain("Restored 1 store, ");
  expect(shredded.code).toBe(0);
  expect((await runOn(place, ["verify", "--backup", target, ...keys])).output).toContain("everything opens");
}

describe.each(ROUTES)(`a backup of $from under ${WRITERS} writers, restored on $to`, ({ from, to, kills, whole }) => {
  const subject = { id: "R15", test: `backup under load, restored on ${to}`, database: from } as const;

  test(`killed ${kills} times, has all that was acknowledged`, { timeout: ROUNDS * ROUND_LIMIT }, async () => {
    const losses: string[] = [];
    const faults: string[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const world = await openWorld(SERVER_BIN, from, BALLAST);
      const target = join(world.folder, "backup");
      const before = await backUpUnderLoad(world, target, kills);
      const restored = await restoreAndRead(world, target, before, to);
      losses.push(...restored.losses);
      faults.push(...restored.faults);
      await refuseKeyrings(world, target, to);
      if (!whole || round > 0) continue;
      await verifyAll(world, restored.place, target);
      await refusePlaces(world, target, restored.place);
      await shred(world, target, to);
    }
    reportTrials({ ...subject, trials: ROUNDS, unit: "backups", losses: losses.length, violations: faults.length });
    expect([...losses, ...faults]).toEqual([]);
  });
});

test.each<[DatabaseName, Edit]>([
  ["SQLite", BACKUP_WITHOUT_SNAPSHOT],
  ["PostgreSQL", BACKUP_AT_READ_COMMITTED],
])("on %s this suite catches a backup that is not of one state", { timeout: ROUND_LIMIT }, async (database, bug) => {
  const world = await openWorld(await seedServer(await freshFolder(), [bug]), database, BALLAST / 2);
  const target = join(world.folder, "backup");
  const before = await backUpUnderLoad(world, target, 0);
  // It shows in what was read, or already in a body that is not the one its record had announced.
  const seen = (await restoreAndRead(world, target, before, database)).faults.join("\n");
  const caught = /are of two batches|is damaged at line/.test(seen);
  reportBug({ id: "R15", test: "backup under load", database, bug: "a backup that is not of one state", caught });
  expect(caught, seen).toBe(true);
});
