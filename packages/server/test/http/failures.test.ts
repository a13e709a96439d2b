/** What becomes of everything that can be thrown, and that neither answer nor log quotes it; spec/http.md § Errors. */

import { expect, test } from "vitest";

import { createApp } from "../../src/app.js";
import { digestToken } from "../../src/auth/tokens.js";
import { DamagedRecordError, StoreGoneError } from "../../src/envelope/errors.js";
import { KeyProviderError } from "../../src/envelope/key-provider.js";
import { openSqlite } from "../../src/storage/sqlite.js";
import { StaleKeyError, StorageBusyError, StorageError, StorageFullError } from "../../src/storage/record-store.js";
import { ROOT_TOKEN, freshFolder, randomRecordPath } from "../world.js";

const CANARY = "canary-51c2";

/** An app whose records fail with `error`, and its log. */
async function failingApp(error: unknown) {
  const database = await openSqlite(`${await freshFolder()}/tacenda.db`);
  const lines: string[] = [];
  const log = (fields: object, message: string) => void lines.push(JSON.stringify({ fields, message }));
  const fail = () => {
    throw error;
  };
  const app = createApp({
    records: { read: fail, versions: fail, commit: fail },
    directory: database.directory,
    keys: { open: fail, createKeys: fail, forget: fail, forgetProject: fail },
    keyAdministration: {
      ...{ status: fail, rotate: fail, migrate: fail, retire: fail, reinstate: fail, destroy: fail },
      ...{ ofStore: fail, rotateDataKey: fail, reencrypt: fail },
    },
    rootTokenDigest: digestToken(ROOT_TOKEN),
    readinessChecks: [
      async () => {
        await Promise.resolve();
        fail();
      },
    ],
    purgeDestroyed: fail,
    logger: { debug: log, info: log, warn: log, error: log },
  });
  const get = (path: string) => app.request(path, { headers: { authorization: `Bearer ${ROOT_TOKEN}` } });
  return { get, lines, close: () => database.close() };
}

const busy = Object.assign(new Error(CANARY), { code: "SQLITE_BUSY" });

const CASES: [thrown: unknown, status: number, code: string][] = [
  [new StorageFullError("No room."), 507, "storage_full"],
  [new StorageError("It failed.", { cause: busy }), 503, "overloaded"],
  [new StorageError("It failed.", { cause: busy, outcome: "unknown" }), 504, "outcome_unknown"],
  [new StorageError("It failed.", { cause: new Error(CANARY) }), 500, "internal"],
  [new StaleKeyError("Stale."), 503, "overloaded"],
  [new StorageBusyError(), 503, "overloaded"],
  [new KeyProviderError("unavailable", "It is down."), 503, "key_provider_unavailable"],
  [new KeyProviderError("refused", "It is another."), 503, "key_provider_unavailable"],
  [new DamagedRecordError([0]), 500, "record_damaged"],
  [new StoreGoneError(), 404, "not_found"],
  [new TypeError(`Invalid URL: /v1/${CANARY}`), 500, "internal"],
  [CANARY, 500, "internal"],
];

test.each(CASES)("%s is answered %i %s", async (error, status, code) => {
  const { get, lines, close } = await failingApp(error);
  const path = randomRecordPath();
  const answer = await get(path);
  const text = await answer.text();
  expect(answer.status).toBe(status);
  expect(answer.headers.get("retry-after")).toBe(code === "overloaded" ? "1" : null);
  if (code === "overloaded") expect(text).toContain("busy, or its database is away");
  expect(JSON.parse(text)).toMatchObject({
    error: { code, requestId: answer.headers.get("tacenda-request-id") },
  });
  expect(text).not.toContain(CANARY);
  const log = lines.join("\n");
  // A store that is not there is no failure of the server's.
  if (status >= 500) expect(log).toContain("request failed");
  else expect(log).not.toContain("request failed");
  expect(log).toContain(answer.headers.get("tacenda-request-id"));
  expect(log).not.toContain(CANARY);
  expect(log).not.toContain(path);
  expect(log).not.toContain(path.slice(-43));
  await close();
});

test("which way the key provider failed is in the log", async () => {
  const { get, lines, close } = await failingApp(new KeyProviderError("refused", "Wrapped by another provider."));
  await get(randomRecordPath());
  expect(lines.join()).toContain('"fault":"refused"');
  await close();
});

test("readiness tells the key provider's and the database's failure, and liveness does not", async () => {
  for (const [error, code] of [
    [new KeyProviderError("unavailable", "It is down."), "key_provider_unavailable"],
    [new StorageError("It failed."), "overloaded"],
  ] as const) {
    const { get, lines, close } = await failingApp(error);
    const answer = await get("/readyz");
    expect(lines[0]).toContain(error.name);
    expect(answer.status).toBe(503);
    expect(await answer.json()).toMatchObject({ error: { code } });
    expect((await get("/livez")).status).toBe(200);
    await close();
  }
});
