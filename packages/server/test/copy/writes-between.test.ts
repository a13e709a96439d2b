/** What is written to the source after the comparison began is refused, or the copy does not end well; spec/envelope.md § Copying. */

import { setTimeout as sleep } from "node:timers/promises";

import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";

import { reopen } from "../../src/cli/reopen.js";
import { closeSource } from "../../src/copy/guard-source.js";
import { openDataBeside } from "../../src/data-directory.js";
import { openForServing } from "../../src/database-place.js";
import { startServer, type RunningServer } from "../../src/server.js";
import { randomRecordPath, sealedRecord } from "../world.js";
import { KINDS, copyHalf, freshDirectory, freshPostgres, hasPostgres, openWorld, runCopy, type Side } from "./world.js";

// Databases are made and copied in each of these tests, on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 });

/** Done once, when the two have been compared and before anything is opened. */
let afterComparing: (() => Promise<void>) | null = null;
beforeEach(() => {
  afterComparing = null;
});
vi.mock("../../src/backup/verify.js", async (original) => {
  const { verify } = await original<typeof import("../../src/backup/verify.js")>();
  return {
    async verify(options: Parameters<typeof verify>[0]) {
      const work = afterComparing;
      afterComparing = null;
      await work?.();
      return await verify(options);
    },
  };
});

/** But for the mark, which is of the source alone. */
async function expectSame(source: Side, target: Side): Promise<void> {
  const rows = await source.contents();
  expect(await target.contents()).toEqual(rows.filter((row) => !row.startsWith('settings {"name":"closed"')));
}

const ROOT = "root-token-for-tests-0123456789abcdef";

/** A server that asks its database for nothing by itself. */
const HOUR = 3_600_000;
const IDLE = {
  expiryInterval: HOUR,
  keyInterval: HOUR,
  tokenUseInterval: HOUR,
  quotaInterval: HOUR,
  countInterval: HOUR,
} as const;

async function put(server: RunningServer, path: string): Promise<number> {
  const { status } = await fetch(server.url + path, {
    method: "PUT",
    headers: { authorization: `Bearer ${ROOT}`, "content-type": "application/octet-stream", "if-none-match": "*" },
    body: sealedRecord() as BodyInit,
  });
  return status;
}

async function isReady(server: RunningServer): Promise<boolean> {
  // An answer is given again for a second.
  await sleep(1_100);
  return (await fetch(`${server.url}/readyz`)).ok;
}

/** A database on PostgreSQL with a store "one", and how to start servers on it. */
async function postgresSource() {
  const { source: origin, keyringFile: keyring } = await openWorld();
  const source = await freshPostgres();
  await runCopy(origin, source, { keyring });
  const serve = async () => {
    const where = { dataDir: (await freshDirectory()).text, databaseUrl: source.text, keyringFile: keyring };
    const server = await startServer({ ...where, ...IDLE, port: 0, rootToken: ROOT });
    onTestFinished(() => server.close());
    return server;
  };
  const open = async () => {
    await reopen({ dataDir: (await freshDirectory()).text, databaseUrl: source.text });
  };
  const first = await serve();
  const created = await fetch(`${first.url}/v1/projects/default/stores`, {
    method: "POST",
    headers: { authorization: `Bearer ${ROOT}`, "content-type": "application/json" },
    body: JSON.stringify({ id: "one" }),
  });
  expect(created.status).toBe(201);
  expect(await put(first, randomRecordPath())).toBe(201);
  return { source, keyring, serve, open, first };
}

/** Ends the connections of all servers, as an administrator or a failover does; idle ones do not come back by themselves. */
async function disconnect(source: Side): Promise<void> {
  // Until what a start and a write bring with them is over.
  await sleep(2_000);
  await source.exec(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'tacenda-server'",
  );
}

describe.runIf(hasPostgres)("of a source on PostgreSQL", () => {
  test.each([
    ["is closed", true],
    ["is not closed", false],
  ])("that %s a server that starts after the comparison acknowledges nothing", async (_, closes) => {
    const { source, keyring, serve, first } = await postgresSource();
    await first.close();
    let outcome: unknown;
    afterComparing = async () => {
      outcome = await serve().then(
        async (server) => await put(server, randomRecordPath()).finally(() => server.close()),
        String,
      );
    };
    const target = await freshDirectory();
    const { code, output } = await runCopy(source, target, { keyring, closeSource: closes });
    expect(outcome).toEqual(closes ? expect.stringContaining("was closed at ") : 503);
    expect(output).toContain("both hold the same");
    expect(code).toBe(0);
    await expectSame(source, target);
    if (closes) await expect(serve()).rejects.toThrow("it was copied to");
    else expect(await put(await serve(), randomRecordPath())).toBe(201);
  });

  test.each([
    ["is closed", true],
    ["is not closed", false],
  ])("that %s an idle server whose connections were lost writes nothing", async (_, closes) => {
    const { source, keyring, first, open } = await postgresSource();
    let answer: number | undefined;
    afterComparing = async () => {
      answer = await put(first, randomRecordPath());
      // Otherwise it is in the way of the copy's end, as it should be.
      await disconnect(source);
    };
    await disconnect(source);
    const target = await freshDirectory();
    const { code } = await runCopy(source, target, { keyring, closeSource: closes });
    expect(answer).toBe(503);
    expect(code).toBe(0);
    await expectSame(source, target);
    if (closes) {
      expect(await put(first, randomRecordPath())).toBe(503);
      expect(await isReady(first)).toBe(false);
      await open();
      expect(await isReady(first)).toBe(true);
    }
    expect(await put(first, randomRecordPath())).toBe(201);
  });

  test("that is closed every table that a copy has refuses whatever is written", async () => {
    const { source, keyring, open, first } = await postgresSource();
    await first.close();
    await runCopy(source, await freshDirectory(), { keyring, closeSource: true });
    const tables = ["projects", "stores", "store_keys", "secret_checks", "tokens", "grants", "settings", "records"];
    tables.push("record_versions", "retired_master_keys", "reencryptions");
    for (const table of tables) {
      for (const sql of [`delete from ${table}`, `insert into ${table} select * from ${table}`, `truncate ${table}`]) {
        await expect(source.exec(sql), sql).rejects.toThrow(/was closed|referenced in a foreign key/);
      }
    }
    await source.exec("insert into leases values ('a', 'b', 1)");
    await open();
    await source.exec("update records set active = active; delete from grants");
  });

  test("that is opened again after the comparison the copy is not served", async () => {
    const { source, keyring, serve, open, first } = await postgresSource();
    await first.close();
    const target = await freshDirectory();
    afterComparing = async () => {
      await open();
      const server = await serve();
      expect(await put(server, randomRecordPath())).toBe(201);
      await server.close();
    };
    await expect(runCopy(source, target, { keyring, closeSource: true })).rejects.toThrow("was opened again");
    await expect(openForServing(target.place)).rejects.toThrow("is half copied");
    expect((await runCopy(source, target, { keyring, closeSource: true })).code).toBe(0);
    await expectSame(source, target);
  });

  test("whose connection with the lock is lost the copy is not served", async () => {
    const { source, keyring, first } = await postgresSource();
    await first.close();
    const target = await freshDirectory();
    afterComparing = () =>
      source.exec(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'tacenda-copy-%'",
      );
    await expect(runCopy(source, target, { keyring })).rejects.toThrow("The connection was lost that kept writes");
    await expect(openForServing(target.place)).rejects.toThrow("is half copied");
    expect((await runCopy(source, target, { keyring })).code).toBe(0);
  });

  test("to which somebody is writing nothing is compared", async () => {
    const { source, keyring, first } = await postgresSource();
    await first.close();
    const { default: pg } = await import("pg");
    const client = new pg.Client({ connectionString: source.text, application_name: "psql" });
    await client.connect();
    onTestFinished(() => client.end());
    await client.query("begin; update records set active = active");
    const target = await freshDirectory();
    const flags = { keyring, ignoreConnections: true };
    await expect(runCopy(source, target, flags)).rejects.toThrow("Somebody is writing to the source");
    await client.query("rollback");
    expect((await runCopy(source, target, flags)).code).toBe(0);
  });

  test("that belongs to another user nothing is closed, and all else goes on", async () => {
    const { source, keyring, serve, first } = await postgresSource();
    await first.close();
    await source.exec(`create role lesser login password 'lesser';
      grant usage on schema public to lesser; grant select, insert, update, delete on all tables in schema public to lesser`);
    onTestFinished(() => source.exec("drop owned by lesser; drop role lesser"));
    const url = new URL(source.text);
    url.username = url.password = "lesser";
    const target = await freshDirectory();
    const lesser = { ...source, text: url.href };
    await expect(runCopy(lesser, target, { keyring, closeSource: true })).rejects.toThrow(
      "the one who owns its tables",
    );
    expect(await put(await serve(), randomRecordPath())).toBe(201);
    await disconnect(source);
    expect((await runCopy(lesser, target, { keyring })).code).toBe(0);
  });
});

describe("of a source on SQLite", () => {
  test("what is written beside servers after the comparison is seen, and refused when the source is closed", async () => {
    const { source, keyringFile: keyring } = await openWorld();
    const write = async () => {
      const { database, close } = await openDataBeside(source.text);
      await database.directory.setSetting("something", "else").finally(close);
    };
    const target = await freshDirectory();
    afterComparing = write;
    await expect(runCopy(source, target, { keyring })).rejects.toThrow("Something was written to the source");
    await expect(openForServing(target.place)).rejects.toThrow("is half copied");
    let refused: unknown;
    afterComparing = async () => {
      refused = await write().catch(String);
    };
    expect((await runCopy(source, target, { keyring, closeSource: true })).code).toBe(0);
    expect(refused).toContain("while it is copied");
    await expectSame(source, target);
  });
});

describe.each(KINDS)("closing a source on %s", (_, fresh) => {
  async function prepare() {
    const { source: origin, keyringFile: keyring } = await openWorld();
    const source = await fresh();
    await runCopy(origin, source, { keyring });
    return { source, keyring, target: await freshDirectory() };
  }

  /** As a process that is killed after it has closed the source. */
  async function closeAndDie(source: Side, target: Side): Promise<void> {
    const hold = source.place.hold();
    await closeSource(source.place, target.place, hold);
    hold.release();
  }

  const DAMAGE = "update record_versions set body = flip(body) where version = 3";

  test("is taken back when the two are not the same", async () => {
    const { source, target, keyring } = await prepare();
    await copyHalf(source, target);
    await target.exec(DAMAGE);
    for (const dies of [false, true]) {
      if (dies) await closeAndDie(source, target);
      const { code, output } = await runCopy(source, target, { keyring, closeSource: true });
      expect(code).toBe(1);
      expect(output).toContain("The two are not the same");
      expect(output).toContain(`Servers start on ${source.place.name} again.`);
      await (await openForServing(source.place)).close();
      await source.exec("update records set active = active");
    }
  });

  test("and being killed leaves it closed, until the copy is finished or it is opened again", async () => {
    const { source, target, keyring } = await prepare();
    await copyHalf(source, target);
    await closeAndDie(source, target);
    const refusal = new RegExp(`while it is copied to ${target.place.name}\\. If no copy runs any more, .*reopen\\.$`);
    await expect(openForServing(source.place)).rejects.toThrow(refusal);
    expect((await runCopy(source, target, { keyring, closeSource: true })).code).toBe(0);
    await expect(openForServing(source.place)).rejects.toThrow("it was copied to");
    await expectSame(source, target);
  });

  test("for good is not taken back when a later copy fails", async () => {
    const { source, target, keyring } = await prepare();
    await runCopy(source, target, { keyring, closeSource: true });
    const other = await freshDirectory();
    await copyHalf(source, other);
    await other.exec(DAMAGE);
    const { code, output } = await runCopy(source, other, { keyring, closeSource: true });
    expect(code).toBe(1);
    expect(output).not.toContain("Servers start on");
    await expect(openForServing(source.place)).rejects.toThrow(`it was copied to ${target.place.name}. Serve`);
  });
});
