/** Several servers on one PostgreSQL: what record-store.ts, directory.ts and key-directory.ts promise holds between them. */

import { setTimeout as sleep } from "node:timers/promises";

import { describe, expect, test } from "vitest";

import type { Database } from "../../src/storage/database.js";
import { SCHEMAS } from "../../src/storage/migrations.js";
import { StaleKeyError } from "../../src/storage/record-store.js";
import { openPostgres } from "../../src/storage/postgres.js";
import { postgresWorld } from "./postgres-world.js";
import {
  bytes,
  createStore,
  currentOf,
  keptOf,
  keptVersions,
  newRef,
  newStore,
  newToken,
  wrappedKey,
  write,
  writeLarge,
} from "./world.js";

const { cluster, create, drop, openTogether } = await postgresWorld();

const S = { project: "p", store: "s" };
const A1 = { provider: "local:a", masterVersion: 1 };
const A2 = { provider: "local:a", masterVersion: 2 };

type Two = [Database, Database, string];

async function two(): Promise<Two> {
  const { databases, url } = await openTogether(2);
  const [a, b] = databases;
  if (a === undefined || b === undefined) throw new Error("two");
  return [a, b, url];
}

describe.runIf(cluster !== null)("records", () => {
  test("of racing writes one wins per version, and its body is the one kept", async () => {
    const [a, b] = await two();
    const refs = Array.from({ length: 3 }, () => newRef());
    const winners = new Map<string, Uint8Array[]>();
    const race = async (db: Database, number: number) => {
      const ref = refs[number] ?? newRef();
      for (let won = false; !won;) {
        const version = ((await currentOf(db, ref))?.version ?? 0) + 1;
        const operation = write(ref, version, { keepVersions: 1_000 });
        won = (await db.records.commit([operation])).applied;
        const name = `${number}/${version}`;
        if (won && operation.write) winners.set(name, [...(winners.get(name) ?? []), operation.write.body]);
      }
    };
    await Promise.all(Array.from({ length: 120 }, (_, worker) => race(worker % 2 === 0 ? a : b, worker % 3)));
    expect(winners.size).toBe(120);
    for (const [name, bodies] of winners) {
      const [number = 0, version = 0] = name.split("/").map(Number);
      expect(bodies).toEqual([(await keptOf(a, refs[number] ?? newRef(), version))?.body]);
    }
  });

  test("of racing creations of the same batch one is made whole, whatever the order of its ids", async () => {
    const [a, b] = await two();
    for (let round = 0; round < 20; round++) {
      const refs = Array.from({ length: 20 }, () => newRef());
      const results = await Promise.all([
        a.records.commit(refs.map((ref) => write(ref, 1))),
        b.records.commit([...refs].reverse().map((ref) => write(ref, 1))),
      ]);
      expect(results.filter(({ applied }) => applied)).toHaveLength(1);
      const loser = results.find(({ applied }) => !applied);
      expect(loser).toMatchObject({ conflicts: refs.map((_, index) => index) });
    }
  });

  test("batches on the same records in opposite orders all come to their end", async () => {
    const [a, b] = await two();
    const refs = Array.from({ length: 8 }, () => newRef());
    await a.records.commit(refs.map((ref) => write(ref, 1)));
    const bump = async (db: Database, order: typeof refs) => {
      for (let done = 0; done < 15;) {
        const current = await db.records.read(order);
        const version = (current[0]?.current.version ?? 0) + 1;
        if ((await db.records.commit(order.map((ref) => write(ref, version)))).applied) done++;
      }
    };
    await Promise.all([bump(a, refs), bump(b, [...refs].reverse()), bump(a, refs), bump(b, refs)]);
    expect((await a.records.read(refs)).map((record) => record?.current.version)).toEqual(refs.map(() => 61));
  });

  test("attributes that two change at once are changed by one", async () => {
    const [a, b] = await two();
    const ref = newRef();
    await a.records.commit([write(ref, 1)]);
    for (let round = 0; round < 20; round++) {
      const [current] = await a.records.read([ref]);
      if (!current) throw new Error("a record");
      const expected = current.current;
      const change = (more: object) => ({ ref, expect: expected, next: { ...expected, ...more }, keepVersions: 10 });
      const results = await Promise.all([
        a.records.commit([change({ protected: !expected.protected })]),
        b.records.commit([change({ active: !expected.active })]),
      ]);
      expect(results.filter(({ applied }) => applied)).toHaveLength(1);
    }
  });

  test("a record that two make at once, with different first versions, is made once", async () => {
    const [a, b] = await two();
    for (let round = 0; round < 20; round++) {
      const ref = newRef();
      const first = (version: number) => write(ref, version, { expect: null });
      const results = await Promise.all([a.records.commit([first(1)]), b.records.commit([first(7)])]);
      expect(results.filter(({ applied }) => applied)).toHaveLength(1);
      expect((await a.records.read([ref]))[0]?.current.version).toBe(results[0].applied ? 1 : 7);
    }
  });

  /** How many bodies are under a data key, once `change` is acknowledged, and when all that was under way is done as well. */
  async function writtenUnder(keyVersion: number, change: (db: Database) => Promise<unknown>, [a, b, url]: Two) {
    const writer = async () => {
      for (;;) {
        const result = await b.records.commit([write(newRef(), 1, { keyVersion })]).catch((error: unknown) => error);
        if (result instanceof StaleKeyError) return;
        if (result instanceof Error) throw result;
      }
    };
    const writers = Array.from({ length: 12 }, writer);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await change(a);
    const count = `select count(*)::int as bodies from record_versions where key_version = ${keyVersion}`;
    const acknowledged = await cluster?.query(count, url);
    await Promise.all(writers);
    return [acknowledged, await cluster?.query(count, url)];
  }

  test("nothing is written under a data key after the commit that retired it, however busy it is", async () => {
    const world = await two();
    await createStore(world[0]);
    for (let round = 1; round <= 8; round++) {
      const rotate = (db: Database) => db.keys.addDataKey(S, wrappedKey("data", { version: round + 1 }));
      const [then, later] = await writtenUnder(round, rotate, world);
      expect(later).toEqual(then);
    }
  });

  test("nothing is written to a store after the commit that destroyed it, however busy it is", async () => {
    const world = await two();
    const [a, b] = world;
    await createStore(a);
    const [then, later] = await writtenUnder(1, (db) => db.directory.destroyStore("p", "s", 9), world);
    expect(later).toEqual(then);
    while ((await b.maintenance.purgeDestroyed(500, 1_000_000)) > 0);
    expect((await a.maintenance.scan(null, 10)).rows).toEqual([]);
  });

  /** From now on inserting a version takes so many seconds. */
  async function slowDown(url: string, seconds: number): Promise<void> {
    await cluster?.query(
      `create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(${seconds}); return new; end $$;
       create trigger slow before insert on record_versions for each row execute function slow()`,
      url,
    );
  }

  test("a write that is under way is waited for by who retires its data key, or destroys its store", async () => {
    const [a, b, url] = await two();
    await createStore(a);
    await slowDown(url, 0.4);
    const changes = [
      () => a.keys.addDataKey(S, wrappedKey("data", { version: 2 })),
      () => a.directory.destroyStore("p", "s", 9),
    ];
    for (const [index, change] of changes.entries()) {
      const ref = newRef();
      const written = b.records.commit([write(ref, 1, { keyVersion: index + 1 })]);
      await new Promise((resolve) => setTimeout(resolve, 150));
      await change();
      expect(await currentOf(a, ref)).not.toBeNull();
      expect(await written).toEqual({ applied: true });
    }
  });

  test("a data key can be retired although there is always a write under way that uses it", async () => {
    const { databases, url } = await openTogether(3);
    const [a, ...others] = databases;
    if (a === undefined) throw new Error("three");
    await createStore(a);
    await slowDown(url, 0.05);
    const writers = others.flatMap((db) =>
      Array.from({ length: 12 }, async () => {
        while ((await db.records.commit([write(newRef(), 1, { keyVersion: 1 })]).catch(() => null)) !== null);
      }),
    );
    await new Promise((resolve) => setTimeout(resolve, 300));
    const begun = performance.now();
    expect(await a.keys.addDataKey(S, wrappedKey("data", { version: 2 }))).toBe("added");
    expect(performance.now() - begun).toBeLessThan(4_000);
    await Promise.all(writers);
  });

  test("what is to be purged is purged, while more of it comes up", async () => {
    const [a, b] = await two();
    const ref = newRef();
    await writeLarge(a, ref, 12);
    let version = 12;
    let done = false;
    const purger = async () => {
      while (!done) await b.maintenance.purgeDestroyed(3, 400_000);
    };
    const writer = async () => {
      for (; version < 60; version++) {
        const body = bytes(300_000);
        const next = write(ref, version + 1, { write: { body, createdAt: 1, expiresAt: 0 }, keepVersions: 2 });
        expect(await a.records.commit([next])).toEqual({ applied: true });
      }
      done = true;
    };
    await Promise.all([writer(), purger(), purger()]);
    while ((await b.maintenance.purgeDestroyed(500, 10_000_000)) > 0);
    expect(await keptVersions(a, ref, 60)).toEqual([59, 60]);
    expect((await a.maintenance.scan(null, 100)).rows.map((row) => row.version)).toEqual([59, 60]);
  });
});

describe.runIf(cluster !== null)("a note of what is to be purged", () => {
  test("is not lost to a purge that is about to delete the one before", async () => {
    const [a, b, url] = await two();
    // The first one's versions are as much as a transaction deletes, so that of the other's there is only a note.
    const [first, ref] = [0, 255].map((byte) => ({ ...newRef(), id: new Uint8Array(32).fill(byte) }));
    if (!first || !ref) throw new Error("two");
    await writeLarge(a, first, 5);
    await writeLarge(a, ref, 6);
    await a.records.commit([write(ref, 7, { purgeEarlier: true })]);
    for (let version = 8; version <= 13; version++) {
      const large = { body: bytes(300_000), createdAt: 1, expiresAt: 0 };
      await a.records.commit([write(ref, version, { write: large, keepVersions: 1_000 })]);
    }
    await cluster?.query(
      `create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.5); return old; end $$;
       create trigger slow before delete on record_versions for each row when (old.version = 6) execute function slow()`,
      url,
    );
    const purged = b.maintenance.purgeDestroyed(500, 10_000_000);
    await new Promise((resolve) => setTimeout(resolve, 200));
    await a.records.commit([write(first, 6, { purgeEarlier: true }), write(ref, 14, { purgeEarlier: true })]);
    await purged;
    while ((await b.maintenance.purgeDestroyed(500, 10_000_000)) > 0);
    expect((await a.maintenance.scan(null, 100)).rows.map((row) => row.version)).toEqual([6, 14]);
  });
});

describe.runIf(cluster !== null)("administration", () => {
  /** Runs `one` and `other` at the same time, again and again. */
  async function races(rounds: number, run: (round: number) => Promise<void>): Promise<void> {
    for (let round = 0; round < rounds; round++) await run(round);
  }

  test("makes each project and store once", async () => {
    const [a, b] = await two();
    await races(10, async (round) => {
      const project = { id: `p${round}`, createdAt: 1 };
      const made = await Promise.all([a.directory.createProject(project), b.directory.createProject(project)]);
      expect([...made].sort()).toEqual(["created", "exists"]);
      const keys = [wrappedKey("index"), wrappedKey("data")];
      const stores = await Promise.all([a, b].map((db) => db.directory.createStore(project.id, newStore("s"), keys)));
      expect([...stores].sort()).toEqual(["created", "exists"]);
      expect(await a.keys.wrappedKeys(project.id, "s")).toHaveLength(2);
    });
  });

  test("either retires a master key or writes a wrap under it", async () => {
    const [a, b] = await two();
    await createStore(a);
    await races(15, async (round) => {
      const master = { provider: "local:a", masterVersion: round + 10 };
      const keys = [wrappedKey("data", master)];
      const [retired, created] = await Promise.all([
        a.keys.retireMaster(master, 7),
        b.directory.createStore("p", newStore(`t${round}`), keys),
      ]);
      expect([retired, created]).toEqual(retired === "retired" ? ["retired", "stale_key"] : ["in_use", "created"]);
    });
    const [key] = await a.keys.findOutdated(A2, null, 1);
    if (key === undefined) throw new Error("a key");
    const wrap = { ...A2, wrapped: bytes(60) };
    const lease = { name: "keys", owner: "b" };
    await b.maintenance.acquireLease(lease, 60_000);
    const [retired, replaced] = await Promise.all([
      a.keys.retireMaster(A2, 7),
      b.keys.replaceWraps([{ key, wrap }], lease),
    ]);
    expect([retired, replaced]).toEqual(retired === "retired" ? ["retired", null] : ["in_use", 1]);
  });

  test("makes each data key once, and leaves one active", async () => {
    const [a, b] = await two();
    await createStore(a);
    await races(10, async (round) => {
      const key = () => wrappedKey("data", { version: round + 2 });
      const added = await Promise.all([a.keys.addDataKey(S, key()), b.keys.addDataKey(S, key())]);
      expect([...added].sort()).toEqual(["added", "conflict"]);
    });
    const active = (await a.keys.wrappedKeys("p", "s")).filter(
      (key) => key.purpose === "data" && key.state === "active",
    );
    expect(active.map(({ version }) => version)).toEqual([11]);
  });

  test("a token is minted by one that lives, or dies with it", async () => {
    const [a, b] = await two();
    await a.directory.createProject({ id: "p", createdAt: 1 });
    await races(15, async (round) => {
      await a.directory.createToken(newToken(`m${round}`));
      const [deleted, minted] = await Promise.all([
        a.directory.deleteToken("p", `m${round}`),
        b.directory.createToken(newToken(`c${round}`, { mintedBy: `m${round}` })),
      ]);
      expect(deleted).toBe(true);
      // Made before, it went with the one that minted it; made after, it was not.
      expect(["created", "gone"]).toContain(minted);
      expect(await a.directory.findToken(`c${round}`)).toBeNull();
    });
  });

  test("no more stores and tokens are made than a quota allows", async () => {
    const [a, b] = await two();
    await a.directory.createProject({ id: "p", createdAt: 1, maxStores: 3, maxTokens: 2 });
    const all = [a, b, a, b, a, b];
    const stores = await Promise.all(all.map((db, n) => db.directory.createStore("p", newStore(`s${n}`), [])));
    const tokens = await Promise.all(all.map((db, n) => db.directory.createToken(newToken(`t${n}`))));
    const made = (results: readonly string[]) => results.filter((result) => result === "created").length;
    expect([made(stores), made(tokens)]).toEqual([3, 2]);
    expect([...stores, ...tokens].filter((result) => result === "over_quota")).toHaveLength(7);
  });

  test("of two first secret checks one is kept", async () => {
    const [a, b] = await two();
    await createStore(a);
    await races(5, async () => {
      const before = await a.directory.secretChecks("p", "s");
      const next = [1, 2].map((createdAt) => ({ digest: bytes(32), createdAt }));
      const results = await Promise.all(
        [a, b].map((db, index) => db.directory.replaceSecretChecks("p", "s", before, next.slice(index, index + 1))),
      );
      expect(results.filter(Boolean)).toHaveLength(1);
      expect(await b.directory.secretChecks("p", "s")).toEqual([next[results.indexOf(true)]]);
    });
  });

  test("settings of a store that two change at once are both changed", async () => {
    const [a, b] = await two();
    await createStore(a);
    await Promise.all([
      a.directory.updateStore("p", "s", { maxVersions: 3 }),
      b.directory.updateStore("p", "s", { secrets: "any" }),
    ]);
    expect(await a.directory.getStore("p", "s")).toMatchObject({ maxVersions: 3, secrets: "any" });
  });

  test("a lease has one holder, who can be replaced when it is over", async () => {
    const [a, b] = await two();
    const take = (owners: readonly string[], duration: number) =>
      Promise.all(
        owners.map((owner, index) =>
          (index % 2 === 0 ? a : b).maintenance.acquireLease({ name: "one", owner }, duration),
        ),
      );
    const first = await take(["one", "two"], 500);
    expect(first.filter(Boolean)).toHaveLength(1);
    expect(await take(["three", "four"], 500)).toEqual([false, false]);
    await sleep(550);
    const late = await take(["five", "six", "seven"], 60_000);
    expect(late.filter(Boolean)).toHaveLength(1);
  });

  test("wraps are replaced by who has the lease as it is committed, and nobody takes it from them meanwhile", async () => {
    const [a, b] = await two();
    await createStore(a);
    const [one, other] = ["one", "other"].map((owner) => ({ name: "keys", owner }));
    if (one === undefined || other === undefined) throw new Error("two terms");
    await races(15, async (round) => {
      await a.maintenance.acquireLease(one, 1);
      await sleep(5);
      const found = await a.keys.findOutdated(A2, null, 10);
      const master = { ...A1, masterVersion: round + 10 };
      const changes = found.map((key) => ({ key, wrap: { ...master, wrapped: bytes(60) } }));
      const taken = b.maintenance.acquireLease(other, 60_000).then(async () => await b.keys.countWraps());
      const [replaced, seen] = await Promise.all([a.keys.replaceWraps(changes, one), taken]);
      // What the next holder sees is final: all of it is there, or it never comes.
      expect(await a.keys.countWraps()).toEqual(seen);
      expect(seen).toEqual(
        replaced === null ? expect.not.arrayContaining([{ ...master, wraps: 2 }]) : [{ ...master, wraps: 2 }],
      );
      await b.maintenance.releaseLease(other);
    });
  });
});

describe.runIf(cluster !== null)("start", () => {
  test("of four servers at once makes the tables once", async () => {
    const url = (await cluster?.createDatabase()) ?? "";
    const databases = await Promise.all([1, 2, 3, 4].map(() => openPostgres(url)));
    for (const database of databases) await database.check();
    const rows = await cluster?.query("select name from kysely_migration", url);
    expect(rows).toHaveLength(SCHEMAS.length);
    await Promise.all(databases.map((database) => database.close()));
    await drop(url);
  });

  test("as a role that owns nothing is enough to serve, once the tables are there", async () => {
    const url = await create();
    const role = `r_${new URL(url).pathname.slice(3)}`;
    const grants = `create role ${role} login password 'p'; grant usage on schema public to ${role};
      grant select, insert, update, delete on all tables in schema public to ${role}`;
    await cluster?.query(grants, url);
    const own = new URL(url);
    [own.username, own.password] = [role, "p"];
    const db = await openPostgres(own.href);
    await createStore(db);
    expect(await db.records.commit([write(newRef(), 1, { keyVersion: 1 })])).toEqual({ applied: true });
    expect(await db.keys.addDataKey(S, wrappedKey("data", { version: 2 }))).toBe("added");
    expect(await db.directory.destroyStore("p", "s", 9)).toHaveLength(3);
    await db.maintenance.purgeDestroyed(10, 1_000);
    await db.close();
    await drop(url);
    await cluster?.query(`drop role ${role}`);
  });

  test("on tables of a newer program is refused, and leaves them alone", async () => {
    const url = await create();
    await cluster?.query("insert into kysely_migration values ('9999_future', '2099-01-01T00:00:00.000Z')", url);
    await expect(openPostgres(url)).rejects.toMatchObject({ name: "NewerDatabaseError" });
    await drop(url);
  });
});
