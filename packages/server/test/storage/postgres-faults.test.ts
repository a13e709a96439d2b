/** PostgreSQL that fails: connections cut at any moment, locks and statements that take too long, wrong URLs. Nothing is lost. */

import { inspect } from "node:util";

import { describe, expect, onTestFinished, test } from "vitest";

import { PASSWORD } from "../../../../tests/postgres.js";
import type { Database } from "../../src/storage/database.js";
import { openPostgres, openPostgresSnapshot } from "../../src/storage/postgres.js";
import { StorageBusyError, StorageError, type RecordRef } from "../../src/storage/record-store.js";
import { postgresWorld } from "./postgres-world.js";
import { cuttingWay, openWay } from "./ways.js";
import { bytes, currentOf, keptOf, newRef, write } from "./world.js";

const { cluster, create, drop, openTogether } = await postgresWorld();

const TERMINATE = `select pg_terminate_backend(pid) from pg_stat_activity
  where datname = current_database() and pid <> pg_backend_pid()`;

interface Ledger {
  ref: RecordRef;
  /** Body of each version that was acknowledged. */
  acknowledged: Map<number, Uint8Array>;
  /** Bodies of which nobody said whether they were written, by version. */
  unknown: Map<number, Uint8Array[]>;
}

/** Writes versions over what it last saw, until told to stop. */
async function keepWriting(db: Database, { ref, acknowledged, unknown }: Ledger, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    const version = ((await currentOf(db, ref).catch(() => null))?.version ?? -1) + 1;
    const next = Math.max(version, acknowledged.size === 0 ? 1 : version);
    if (next === 0) continue;
    const body = bytes(50);
    const operation = write(ref, next, { write: { body, createdAt: 1, expiresAt: 0 }, keepVersions: 1_000 });
    try {
      if ((await db.records.commit([operation])).applied) acknowledged.set(next, body);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      if (error.outcome === "unknown") unknown.set(next, [...(unknown.get(next) ?? []), body]);
    }
  }
}

describe.runIf(cluster !== null)("connections that are cut", () => {
  test("in the middle of everything lose nothing that was acknowledged, and write nothing that was refused", async () => {
    const { url, databases } = await openTogether(2);
    const ledgers = Array.from({ length: 8 }, () => ({ ref: newRef(), acknowledged: new Map(), unknown: new Map() }));
    let isOver = false;
    const writers = ledgers.map((ledger, index) => {
      const db = databases[index % 2];
      return db === undefined ? Promise.resolve() : keepWriting(db, ledger, () => isOver);
    });
    for (let cut = 0; cut < 25; cut++) {
      await new Promise((resolve) => setTimeout(resolve, 30 + Math.random() * 90));
      await cluster?.query(TERMINATE, url);
    }
    isOver = true;
    await Promise.all(writers);
    const [db] = databases;
    if (db === undefined) throw new Error("a database");
    let written = 0;
    for (const { ref, acknowledged, unknown } of ledgers as Ledger[]) {
      const last = (await currentOf(db, ref))?.version ?? 0;
      for (let version = 1; version <= last; version++) {
        const kept = (await keptOf(db, ref, version))?.body;
        const known = acknowledged.get(version);
        if (known === undefined) expect(unknown.get(version) ?? []).toContainEqual(kept);
        else expect(kept).toEqual(known);
        written++;
      }
      expect(Math.max(0, ...acknowledged.keys())).toBeLessThanOrEqual(last);
    }
    expect(written).toBeGreaterThan(20);
  });

  test("while they are idle are not noticed", async () => {
    const { url, databases } = await openTogether(1);
    const ref = newRef();
    await databases[0]?.records.commit([write(ref, 1)]);
    for (let version = 2; version <= 4; version++) {
      await cluster?.query(TERMINATE, url);
      expect(await databases[0]?.records.commit([write(ref, version)])).toEqual({ applied: true });
      await cluster?.query(TERMINATE, url);
      expect(await databases[0]?.records.read([ref])).toMatchObject([{ current: { version } }]);
    }
  });

  test("end a snapshot: it goes on in no other state", async () => {
    const { url, databases } = await openTogether(1);
    await databases[0]?.directory.setSetting("a", "before");
    const snapshot = await openPostgresSnapshot(url);
    const settings = async () => {
      const found: string[] = [];
      for await (const { value } of snapshot.rows("settings")) found.push(value);
      return found;
    };
    expect(await settings()).toEqual(["before"]);
    await cluster?.query(TERMINATE, url);
    // Until the end of the connection has been heard of, and after it.
    await expect(settings()).rejects.toThrow(StorageError);
    await databases[0]?.directory.setSetting("a", "after");
    await expect(settings()).rejects.toThrow(StorageError);
    await snapshot.close();
  });

  test("at COMMIT leave its outcome unknown, and say so", async () => {
    const { url, databases } = await openTogether(1);
    await cluster?.query(
      `create function cut() returns trigger language plpgsql as $$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$;
       create constraint trigger cut after insert on records deferrable initially deferred for each row execute function cut()`,
      url,
    );
    const refused: unknown = await databases[0]?.records.commit([write(newRef(), 1)]).catch((error: unknown) => error);
    expect(refused).toMatchObject({ name: "StorageError", outcome: "unknown" });
    await cluster?.query("drop trigger cut on records", url);
    expect(await databases[0]?.records.commit([write(newRef(), 1)])).toEqual({ applied: true });
  });

  test("what the server refuses at COMMIT is not written, and is not of unknown outcome", async () => {
    const { url, databases } = await openTogether(1);
    await cluster?.query(
      `create function no() returns trigger language plpgsql as $$ begin raise exception 'no: %', new.tag; end $$;
       create constraint trigger no after insert on records deferrable initially deferred for each row execute function no()`,
      url,
    );
    const ref = newRef();
    const refused: unknown = await databases[0]?.records.commit([write(ref, 1)]).catch((error: unknown) => error);
    expect(refused).toMatchObject({ name: "StorageError", outcome: "none" });
    expect(inspect(refused, { depth: 9, showHidden: true })).not.toContain("no: ");
    expect(await databases[0]?.records.read([ref])).toEqual([null]);
  });
});

describe.runIf(cluster !== null)("a network that cuts a connection", () => {
  test.each([
    ["at COMMIT, which arrives, leaves the outcome unknown", "commit\0", "after"],
    ["at COMMIT, which does not arrive, leaves the outcome unknown", "commit\0", "before"],
  ] as const)("%s", async (_, word, when) => {
    const url = await create();
    const way = await cuttingWay(url, word, when);
    const db = await openPostgres(way.url);
    way.begin();
    const ref = newRef();
    await expect(db.records.commit([write(ref, 1)])).rejects.toMatchObject({
      name: "StorageError",
      outcome: "unknown",
    });
    expect(way.cuts()).toBe(1);
    await expect.poll(async () => (await currentOf(db, ref))?.version ?? 0).toBe(when === "after" ? 1 : 0);
    await db.close();
    await drop(url);
  });

  test.each([
    ["insert into", "before"],
    ["insert into", "after"],
    ["for update", "before"],
  ] as const)("at %s, %s it arrives, has the write made again", async (word, when) => {
    const url = await create();
    const way = await cuttingWay(url, word, when);
    const db = await openPostgres(way.url);
    way.begin();
    const ref = newRef();
    expect(await db.records.commit([write(ref, 1)])).toEqual({ applied: true });
    expect(way.cuts()).toBe(1);
    expect((await currentOf(db, ref))?.version).toBe(1);
    await db.close();
    await drop(url);
  });
});

describe.runIf(cluster !== null)("several hosts", () => {
  /** The same database on two ways to it, and a storage that has the first from the beginning. */
  async function openOnTwoWays() {
    const url = await create();
    const ways = [await openWay(url), await openWay(url)] as const;
    const db = await openPostgres(
      `${url.replace(new URL(url).host, ways.map(({ place }) => place).join())}?connect_timeout=1`,
    );
    onTestFinished(async () => {
      await db.close();
      await drop(url);
    });
    const reads = () => Promise.all(Array.from({ length: 8 }, () => db.directory.getSetting("none")));
    await reads();
    return { db, ways, reads };
  }

  test("when the first is gone and another is found, nothing goes to the first any more, though it comes back", async () => {
    const { db, ways, reads } = await openOnTwoWays();
    const [first, second] = ways;
    expect(first.open()).toBeGreaterThan(4);
    expect(second.open()).toBe(0);
    // One connection is lost, and the others live on: the first may not know that it was replaced.
    first.refuse();
    first.cutOne();
    for (let count = 0; count < 4; count++) await db.records.commit([write(newRef(), 1)]);
    await reads();
    expect(second.open()).toBeGreaterThan(0);
    await expect.poll(() => first.open()).toBe(0);
    first.accept();
    second.cutOne();
    await reads();
    expect(first.open()).toBe(0);
  });

  test("one that is connected to and says nothing is left for the next", async () => {
    const { db, ways } = await openOnTwoWays();
    const [first, second] = ways;
    first.freeze();
    first.cutAll();
    expect(await db.records.commit([write(newRef(), 1)])).toEqual({ applied: true });
    expect(second.open()).toBeGreaterThan(0);
  });

  test("a storage that holds connections over which nothing comes any more is closed all the same", async () => {
    const { db, ways } = await openOnTwoWays();
    ways[0].freeze();
    const unanswered = db.records.commit([write(newRef(), 1)]).catch((error: unknown) => error);
    await db.close();
    expect(await unanswered).toBeInstanceOf(StorageError);
  });
});

describe.runIf(cluster !== null)("what takes too long", () => {
  test("is given up with nothing written: a lock that others hold, and a statement", async () => {
    const [locked, slow] = [await openTogether(1), await openTogether(1)];
    const slowly =
      "create function wait() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return new; end $$";
    await cluster?.query(slowly, slow.url);
    await cluster?.query("create trigger wait before insert on records for each row execute function wait()", slow.url);
    const holder = cluster?.query(
      "begin; lock table records in access exclusive mode; select pg_sleep(14)",
      locked.url,
    );
    await new Promise((resolve) => setTimeout(resolve, 200));
    const ref = newRef();
    const refused = await Promise.all(
      [locked, slow].map(
        async ({ databases }) => await databases[0]?.records.commit([write(ref, 1)]).catch((e: unknown) => e),
      ),
    );
    for (const error of refused) {
      expect(error).toBeInstanceOf(StorageBusyError);
      expect(error).toMatchObject({ outcome: "none" });
    }
    await holder;
    expect(await locked.databases[0]?.records.commit([write(ref, 1)])).toEqual({ applied: true });
    expect(await slow.databases[0]?.records.read([ref])).toEqual([null]);
  });
});

describe.runIf(cluster !== null)("a database that cannot be used", () => {
  const attempt = async (url: string): Promise<string> => {
    const error: unknown = await openPostgres(url).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(StorageError);
    const shown = inspect(error, { depth: 9, showHidden: true });
    expect(shown).not.toContain("wrong-password");
    expect(shown).not.toContain(PASSWORD);
    expect(shown).not.toContain("somebody");
    return (error as Error).message;
  };

  test("says of each host what is wrong with it, and shows no password and no user", async () => {
    const url = await create();
    expect(await attempt(url.replace(PASSWORD, "wrong-password"))).toContain(
      "refuses the user or the password (28P01)",
    );
    expect(await attempt(url.replace("//postgres:", "//somebody:"))).toContain("There is no connection to");
    expect(await attempt(url.replace(/\/[^/]*$/, "/nothing"))).toContain("has no such database (3D000)");
    expect(await attempt(url.replace(/:\d+\//, ":1/"))).toContain("127.0.0.1:1 cannot be reached (ECONNREFUSED)");
    expect(await attempt(`${url}?sslmode=verify-full`)).toContain("has no TLS");
    await drop(url);
  });

  test("is left for the next host, and one that takes no writes too", async () => {
    const url = await create();
    const readOnly = await create();
    const place = (of: string) => new URL(of).host;
    const several = url.replace(place(url), `127.0.0.1:1,${place(url)}`);
    const db = await openPostgres(several);
    await db.check();
    await db.close();
    await cluster?.query(
      `alter database ${new URL(readOnly).pathname.slice(1)} set default_transaction_read_only = on`,
    );
    expect(await attempt(readOnly)).toContain("takes no writes");
    await drop(url);
    await drop(readOnly);
  });
});
