/**
 * What PostgreSQL says of a commit counts in every language, and whatever the role's settings are: warnings, errors that end a
 * session, and a BEGIN that fails. The languages are made on the way, for few machines have another one's locale.
 */

import { describe, expect, onTestFinished, test } from "vitest";

import { openPostgres } from "../../src/storage/postgres.js";
import { postgresWorld } from "./postgres-world.js";
import { translatingWay } from "./ways.js";
import { newRef, write } from "./world.js";

const { cluster, create, drop } = await postgresWorld();

type Words = Parameters<typeof translatingWay>[1];

/** A storage on a database in which COMMIT does `what` after records were written; `setting` is the database's. */
async function openWhere(what: string, { words = {}, setting }: { words?: Words; setting?: string } = {}) {
  const url = await create();
  await cluster?.query(
    `create sequence tries;
     create function act() returns trigger language plpgsql as $$ begin ${what}; return null; end $$;
     create constraint trigger act after insert on records deferrable initially deferred for each row execute function act()`,
    url,
  );
  if (setting !== undefined) await cluster?.query(`alter database ${new URL(url).pathname.slice(1)} set ${setting}`);
  return await openOn(url, words);
}

async function openOn(url: string, words: Words) {
  const way = await translatingWay(url, words);
  const db = await openPostgres(way.url);
  onTestFinished(async () => {
    await db.close();
    await drop(url);
  });
  return { db, way };
}

const unknown = { name: "StorageError", outcome: "unknown" };

describe.runIf(cluster !== null)("a commit", () => {
  test("of which the server warns is not acknowledged: in another language", async () => {
    const words = { server: { "SWARNING\0": "SWARNUNG\0" } };
    const { db, way } = await openWhere("raise warning 'only here'", { words });
    await expect(db.records.commit([write(newRef(), 1)])).rejects.toMatchObject(unknown);
    expect(way.replaced()).toBeGreaterThan(0);
  });

  test("of which the server warns is not acknowledged: where only errors are told", async () => {
    const { db } = await openWhere("raise warning 'only here'", { setting: "client_min_messages = error" });
    await expect(db.records.commit([write(newRef(), 1)])).rejects.toMatchObject(unknown);
  });

  test.each([
    ["00000", { applied: true }],
    ["01000", unknown],
  ])("with a notice is judged by its code: %s", async (code, outcome) => {
    const { db } = await openWhere(`raise info 'something' using errcode = '${code}'`);
    const answer: unknown = await db.records.commit([write(newRef(), 1)]).catch((error: unknown) => error);
    expect(answer).toMatchObject(outcome);
  });

  test.each(["57P01", "XX000", "40001"])(
    "whose session ends with it is of unknown outcome, in every language: %s",
    async (code) => {
      const words = { server: { "SFATAL\0": "SFATUM\0", "C57P01\0": `C${code}\0` } };
      const { db, way } = await openWhere("perform pg_terminate_backend(pg_backend_pid())", { words });
      await expect(db.records.commit([write(newRef(), 1)])).rejects.toMatchObject(unknown);
      expect(way.replaced()).toBeGreaterThan(1);
    },
  );

  test("that fails with a lost connection behind the server is of unknown outcome", async () => {
    const { db } = await openWhere("raise exception 'gone' using errcode = '08006'");
    await expect(db.records.commit([write(newRef(), 1)])).rejects.toMatchObject(unknown);
  });

  test("that came in the way of another one is made again", async () => {
    const { db } = await openWhere(
      "if nextval('tries') = 1 then raise exception 'again' using errcode = '40001'; end if",
    );
    expect(await db.records.commit([write(newRef(), 1)])).toEqual({ applied: true });
  });
});

describe.runIf(cluster !== null)("a transaction", () => {
  test("whose BEGIN fails writes nothing", async () => {
    const { db, way } = await openOn(await create(), { client: { "begin isolation": "begon isolation" } });
    const ref = newRef();
    await expect(db.directory.setSetting("a", "b")).rejects.toMatchObject({ name: "StorageError" });
    await expect(db.records.commit([write(ref, 1)])).rejects.toMatchObject({ name: "StorageError", outcome: "none" });
    expect(way.replaced()).toBe(2);
    expect(await db.directory.getSetting("a")).toBeNull();
    expect(await db.records.read([ref])).toEqual([null]);
  });

  test("whose session ends before COMMIT is run again, in every language", async () => {
    const url = await create();
    await cluster?.query(
      `create sequence tries;
       create function act() returns trigger language plpgsql as $$ begin
         if nextval('tries') = 1 then perform pg_terminate_backend(pg_backend_pid()); end if; return new; end $$;
       create trigger act before insert on records for each row execute function act()`,
      url,
    );
    const { db, way } = await openOn(url, { server: { "SFATAL\0": "SFATUM\0", "C57P01\0": "CXX000\0" } });
    expect(await db.records.commit([write(newRef(), 1)])).toEqual({ applied: true });
    expect(way.replaced()).toBe(2);
  });
});

test.runIf(cluster !== null)("a database that would keep its warnings to itself is refused", async () => {
  const url = await create();
  onTestFinished(() => drop(url));
  const way = await translatingWay(url, {
    client: { "client_min_messages = warning": "client_min_messages = error  " },
  });
  await expect(openPostgres(way.url)).rejects.toThrow("client_min_messages");
});
