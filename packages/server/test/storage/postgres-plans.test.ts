/** However large the tables are, background work reads by index: PostgreSQL's own count of whole readings of a table says so. */

import { describe, expect, test } from "vitest";

import { openPostgres } from "../../src/storage/postgres.js";
import { postgresWorld } from "./postgres-world.js";
import { newRef, write } from "./world.js";

const { cluster, create, drop } = await postgresWorld();

const RECORDS = 50_000;
/** More than after which PostgreSQL plans a prepared statement without its values. */
const REPEATS = 8;
const BOUNDS = { maxRows: 256, maxBodies: 128, maxBytes: 1_048_576 };

describe.runIf(cluster !== null)("with one large store and a small one that is destroyed", () => {
  test("no maintenance reads a table as a whole", async () => {
    const url = await create();
    const setUp = await openPostgres(url);
    await setUp.directory.createProject({ id: "p", createdAt: 1 });
    for (const id of ["large", "gone"]) {
      await setUp.directory.createStore("p", { id, secrets: "one", maxVersions: 10, createdAt: 1 }, []);
    }
    await setUp.close();
    await cluster?.query(
      `insert into records (project, store, record_id, version, protected, active, kept_from)
       select 'p', 'large', sha256(n::text::bytea), 1, 0, 1, 1 from generate_series(1, ${RECORDS}) as n`,
      url,
    );
    await cluster?.query(
      `insert into record_versions (project, store, record_id, version, key_version, body, created_at, expires_at)
       select 'p', 'large', sha256(n::text::bytea), 1, 1, sha512(n::text::bytea), 1, 0 from generate_series(1, ${RECORDS}) as n`,
      url,
    );
    await cluster?.query("vacuum (analyze)", url);
    const before = await wholeReadings(url);

    const db = await openPostgres(url);
    const { maintenance, directory, records } = db;
    await records.commit([write(newRef("p", "gone"), 1), write(newRef("p", "gone"), 1)]);
    await directory.destroyStore("p", "gone", 2);
    let purged = 0;
    for (let count = 0; count < REPEATS; count++) {
      // One row at a time.
      purged += await maintenance.purgeDestroyed(1, 1_048_576);
      await maintenance.findExpiring(10, null, BOUNDS);
      const { next } = await maintenance.scan(null, 100);
      await maintenance.scan(next, 100);
      const place = { id: new Uint8Array([count * 16]), version: 0 };
      const { rows } = await maintenance.findOutdatedBodies(
        { project: "p", store: "large" },
        [new Uint8Array(5)],
        place,
        BOUNDS,
      );
      expect(rows).toHaveLength(BOUNDS.maxBodies);
    }
    expect(purged).toBe(4);
    // What sessions have counted is told when they have ended.
    await db.close();
    const sessions = `select 1 from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
      and backend_type = 'client backend'`;
    await expect.poll(() => cluster?.query(sessions, url)).toEqual([]);
    expect(await wholeReadings(url)).toEqual(before);
    await drop(url);
  });
});

async function wholeReadings(url: string): Promise<unknown> {
  return await cluster?.query(
    "select relname, seq_scan::int from pg_stat_user_tables where relname like 'record%' order by relname",
    url,
  );
}
