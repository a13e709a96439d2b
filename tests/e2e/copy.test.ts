/**
 * A database with everything in it that there can be, moved from each kind to each by the command: a server on the new one gives
 * the SDK what the old one gave, and goes on with what the old one had begun.
 */

import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { Tacenda, TacendaError, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { startServer, type RunningServer } from "@tacenda/server";
import BetterSqlite3 from "better-sqlite3";
import { describe, expect, onTestFinished, test } from "vitest";

import { DATABASES, freshPlace, sharedCluster, type Place } from "../reliability/databases.ts";
import { runCommand } from "../server-process.ts";

const HOUR = 3_600_000;
const VALUES = 1_000;
const KEYS = [
  "plain",
  "versions",
  "deleted",
  "destroyed",
  "expired",
  "soon",
  "protected",
  "inactive",
  "meta",
  "purged",
  "never",
];
const PLACES = [
  ["default", "user-tokens"],
  ["default", "turned"],
  ["acme", "tenants"],
] as const;

/** By what is told beside the bodies. */
const DATA_KEYS_OF_TURNED = "select count(distinct key_version) from record_versions where store = 'turned'";

/** How far a server's clock is ahead, in milliseconds. */
interface Clock {
  ahead: number;
}

interface Access {
  rootToken: string;
  secret: string;
  token: string;
  clock: Clock;
}

async function serve(place: Place, clock: Clock, keyringFile?: string): Promise<RunningServer & { rootToken: string }> {
  let rootToken = "";
  const server = await startServer({
    dataDir: place.dataDir,
    ...(place.databaseUrl !== null && { databaseUrl: place.databaseUrl }),
    ...(keyringFile !== undefined && { keyringFile }),
    port: 0,
    now: () => Date.now() + clock.ahead,
    expiryInterval: 20,
    announceRootToken: (token) => Promise.resolve(void (rootToken = token)),
  });
  onTestFinished(() => server.close());
  return { ...server, rootToken };
}

/** One value of the database itself, past the server. */
async function ask(place: Place, sql: string): Promise<number> {
  if (place.databaseUrl !== null) {
    const [row] = await (await sharedCluster()).query<{ value: string }>(`select (${sql}) as value`, place.databaseUrl);
    return Number(row?.value);
  }
  const raw = new BetterSqlite3(join(place.dataDir, "tacenda.db"));
  try {
    return Number(raw.prepare(sql).pluck().get());
  } finally {
    raw.close();
  }
}

async function change(place: Place, sql: string): Promise<void> {
  if (place.databaseUrl !== null) {
    await (await sharedCluster()).query(sql, place.databaseUrl);
    return;
  }
  const raw = new BetterSqlite3(join(place.dataDir, "tacenda.db"));
  raw.exec(sql);
  raw.close();
}

/** Fills it, and stops the server in the middle of a re-encryption. Gives what was read before that. */
async function fill(place: Place): Promise<Access & { read: unknown }> {
  const clock = { ahead: 0 };
  const server = await serve(place, clock);
  const { url, rootToken } = server;
  const secret = generateSecret();
  const admin = new TacendaAdmin({ url, token: rootToken });
  await admin.projects.create("acme");
  await admin.projects.create("bankrupt");
  await admin.stores.create("tenants", { project: "acme", secrets: "any" });
  for (const id of ["user-tokens", "turned", "destroyed"]) await admin.stores.create(id);
  await admin.stores.update("turned", { maxVersions: 3 });
  const { token: minter } = await admin.tokens.create("minter", [{ stores: ["*"], permissions: ["manage"] }]);
  const { token } = await new TacendaAdmin({ url, token: minter }).tokens.create(
    "backend",
    [{ stores: ["user-*", "turned"], permissions: ["read", "write", "delete"] }],
    { expiresAt: new Date(Date.now() + 100 * HOUR) },
  );
  const root = new Tacenda({ url, token: rootToken });
  const store = root.getStore("user-tokens", { secret });
  await store.setValue("plain", "ghp_1");
  for (const value of ["1", "2", "3"]) await store.setValue("versions", value);
  await store.setValue("deleted", "v");
  await store.deleteValue("deleted");
  for (const value of ["1", "2"]) await store.setValue("destroyed", value);
  await store.destroyValue("destroyed");
  await store.setValue("expired", "v", { expiresIn: "1s" });
  await store.setValue("soon", "v", { expiresIn: "9h" });
  await store.setValue("protected", "v");
  await store.setProtected("protected", true);
  await store.setValue("inactive", "v");
  await store.setActive("inactive", false);
  await store.setValue("meta", "v", { metadata: { scope: "repo" } });
  for (const value of ["1", "2"]) await store.setValue("purged", value);
  await root.getStore("destroyed", { secret }).setValue("k", "v");
  await admin.stores.delete("destroyed");
  await admin.projects.delete("bankrupt");
  await new Tacenda({ url, token: rootToken, project: "acme" })
    .getStore("tenants", { secret })
    .setValue("plain", "theirs");
  await admin.keys.rotateData("user-tokens");
  await store.setValue("versions", "4 under another key");
  await admin.keys.rotate();
  const turned = root.getStore("turned", { secret, stretch: "store" });
  for (let start = 0; start < VALUES; start += 100) {
    await turned.setValues(
      Array.from({ length: 100 }, (_, index) => [`k${start + index}`, `v${start + index}`] as const),
    );
  }
  // Until what has expired is reduced to its head, and master keys are wrapped anew.
  while ((await ask(place, "select count(*) from record_versions where expires_at > 0")) > 1) await sleep(20);
  while ((await admin.keys.status()).outdatedWraps > 0) await sleep(20);
  const access = { rootToken, secret, token, clock };
  const read = await readAll(url, access);
  await admin.keys.rotateData("turned", { reencrypt: true });
  while ((await ask(place, DATA_KEYS_OF_TURNED)) === 1) await sleep(1);
  await server.close();
  expect(await ask(place, "select count(*) from reencryptions where ended_at is null")).toBe(1);
  expect(await ask(place, DATA_KEYS_OF_TURNED)).toBe(2);
  await pend(place);
  return { ...access, read };
}

/** As if the server had been stopped before it purged what is not kept any more: a record's versions, and a destroyed store's. */
async function pend(place: Place): Promise<void> {
  await change(
    place,
    `insert into record_versions select project, store, record_id, version - 1, key_version, body, created_at, 0
      from record_versions where version = 3 and store = 'user-tokens' and (project, store, record_id) in
      (select project, store, record_id from records where version = 3 and kept_from = 3);
    insert into purges select project, store, record_id from records where version = 3 and kept_from = 3;
    insert into records select project, 'destroyed', record_id, version, protected, active, tag, kept_from from records
      where store = 'tenants';
    insert into record_versions select project, 'destroyed', record_id, version, key_version, body, created_at, expires_at
      from record_versions where store = 'tenants'`,
  );
  expect(await ask(place, "select count(*) from purges")).toBe(1);
}

/** Everything that clients can see, by clients that have seen nothing before. */
async function readAll(url: string, { rootToken, secret, token }: Access) {
  const seen: Record<string, unknown> = {};
  const note = async (what: string, look: () => Promise<unknown>) => {
    seen[what] = await look().catch((error: unknown) => (error instanceof TacendaError ? error.code : String(error)));
  };
  const admin = new TacendaAdmin({ url, token: rootToken });
  await note("projects", () => admin.projects.list());
  for (const project of ["default", "acme", "bankrupt"]) {
    await note(`stores of ${project}`, () => admin.stores.list({ project }));
    // A use is noted some time after it.
    await note(`tokens of ${project}`, async () =>
      (await admin.tokens.list({ project })).map((token) => ({ ...token, lastUsedAt: null })),
    );
  }
  for (const [project, id] of PLACES) {
    const options = { secret, stretch: id === "turned" ? "store" : "key" } as const;
    const store = new Tacenda({ url, token: rootToken, project }).getStore(id, options);
    const names = id === "turned" ? Array.from({ length: VALUES }, (_, index) => `k${index}`) : KEYS;
    for (const name of names.slice(0, KEYS.length)) {
      await note(`${project}/${id} ${name}`, () => store.getEntry(name));
      await note(`${project}/${id} ${name} versions`, () => store.listVersions(name));
      await note(`${project}/${id} ${name} as it was`, () => store.getValue(name, { version: 1 }));
    }
    for (let start = 0; start < names.length; start += 100) {
      await note(`${project}/${id} from ${start}`, () => store.getValues(names.slice(start, start + 100)));
    }
    const limited = new Tacenda({ url, token, project }).getStore(id, options);
    await note(`${project}/${id} by a token of few`, () => limited.getValue(names[0] ?? ""));
    const stranger = new Tacenda({ url, token: rootToken, project }).getStore(id, { secret: generateSecret() });
    await note(`${project}/${id} with another secret`, () => stranger.verify());
  }
  await note("an id that was destroyed", () => admin.stores.create("destroyed"));
  await note("a project that was destroyed", () => admin.projects.create("bankrupt"));
  return seen;
}

describe.each(DATABASES)("a database on %s", (from) => {
  test(`is moved to ${DATABASES.join(" and to ")}`, { timeout: 180_000 }, async () => {
    const source = await freshPlace(from);
    const { read, ...access } = await fill(source);
    for (const what of ["deleted", "expired", "record_inactive", "wrong_secret", "id_retired", "repo"]) {
      expect(JSON.stringify(read)).toContain(`"${what}"`);
    }
    const keyring = join(source.dataDir, "keyring.json");
    for (const [index, to] of DATABASES.entries()) {
      const target = await freshPlace(to);
      const isLast = index + 1 === DATABASES.length;
      const env = {
        TACENDA_COPY_FROM: source.databaseUrl ?? source.dataDir,
        TACENDA_COPY_TO: target.databaseUrl ?? target.dataDir,
        TACENDA_KEYRING: keyring,
      };
      const { code, output } = await runCommand(["copy", ...(isLast ? ["--close-source"] : [])], { env });
      expect(output).toContain("everything opens.");
      expect(output).not.toContain("password");
      expect(code).toBe(0);
      await checkServed(target, keyring, access, read);
    }
    await expect(serve(source, access.clock)).rejects.toThrow("was closed");
  });
});

/** Serves it, looks at everything, and sees what was begun on the old database come to its end. */
async function checkServed(place: Place, keyring: string, { rootToken, secret, token }: Access, read: unknown) {
  const clock = { ahead: 0 };
  const server = await serve(place, clock, keyring);
  expect(server.rootToken).toBe("");
  const { url } = server;
  const access = { rootToken, secret, token, clock };
  expect(await readAll(url, access)).toEqual(read);
  const admin = new TacendaAdmin({ url, token: rootToken });
  while ((await admin.keys.status()).reencryptions.length > 0) await sleep(20);
  expect((await admin.keys.ofStore("turned")).keys.filter(({ purpose }) => purpose === "data")).toHaveLength(1);
  expect(await ask(place, DATA_KEYS_OF_TURNED)).toBe(1);
  expect(await readAll(url, access)).toEqual(read);
  clock.ahead += 20 * HOUR;
  while ((await ask(place, "select count(*) from record_versions where expires_at > 0")) > 0) await sleep(20);
  const store = new Tacenda({ url, token: rootToken }).getStore("user-tokens", { secret });
  expect(await store.setValue("versions", "5")).toEqual({ version: 5 });
  expect(await store.deleteValue("meta")).toEqual({ version: 2 });
  await server.close();
}
