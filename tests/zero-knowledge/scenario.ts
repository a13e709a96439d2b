/**
 * A day in the life of a server, good and bad: every kind of call that the SDK makes and every kind of refusal, through a
 * recording proxy, key operations and a backup; and all that can be seen of it afterwards.
 */

import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";

import { RECORD_MEDIA_TYPE } from "@tacenda/protocol";
import { type Store, Tacenda, TacendaError, type TacendaErrorCode } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";

import { freshFolder, spawnServer } from "../server-process.ts";
import type { Canaries } from "./canaries.ts";
import { backUp, keyringFlags, operateKeys, readAfterwards, type MasterKeys } from "./key-day.ts";
import { misuse } from "./misuse.ts";
import { openRecordingProxy } from "./recording-proxy.ts";

/** All that can be seen. */
export interface Evidence {
  /** Names and contents of everything in the data directory, while the server runs and after its end, and in a backup. */
  files: Map<string, Buffer>;
  /** stdout and stderr of the server and of commands. */
  output: string;
  metrics: string;
  requests: Buffer;
  responses: Buffer;
  /** What the SDK threw. */
  errors: unknown[];
  /** What the SDK gave to its caller to hold: clients and stores. */
  objects: unknown[];
  /** Tokens that the server minted. */
  tokens: { live: string; revoked: string };
  masterKeys: MasterKeys;
  /** As they stand in paths. */
  keyHashes: string[];
  /** Bodies of the PUTs that the SDK sent. */
  records: Uint8Array[];
  /** Statuses of all answers to hand-made requests. */
  statuses: Set<number>;
}

const FLAGS = ["--metrics-port", "0", "--log-level", "trace", "--cors-origin", "https://console.example"];

/** Runs the server of `bin` and gives the evidence. @throws {Error} when a call goes otherwise than it should. */
export async function runScenario(bin: string, canaries: Canaries): Promise<Evidence> {
  const folder = await freshFolder();
  const [dataDir, backup] = [join(folder, "data"), join(folder, "backup")];
  const flags = [...FLAGS, ...keyringFlags(dataDir)];
  const server = await spawnServer({ bin, dataDir, rootToken: canaries.rootToken, flags });
  const proxy = await openRecordingProxy(new URL(server.url));
  const spy = spyingFetch();
  const errors: unknown[] = [];
  const actors = { url: proxy.url, fetch: spy.fetch, canaries, errors };

  const tokens = await administrate(actors);
  const objects = await useStore(actors, tokens);
  const [first = "", second = ""] = spy.written;
  await sealedUnderAnother(actors, tokens.live, first, second);
  const statuses = await misuse(proxy.url, canaries, tokens.live, first);

  const { project, rootToken } = canaries;
  const admin = new TacendaAdmin({ url: proxy.url, token: rootToken, project });
  await fails(actors, "key_in_use", () => admin.keys.destroy({ version: 1 }));
  const masterKeys = await operateKeys(admin, canaries, dataDir);
  await readAfterwards(proxy.url, tokens.live, canaries);
  const said = await backUp(bin, dataDir, backup);

  const metrics = await (await fetch(server.metricsUrl ?? "")).text();
  const files = await readFiles(dataDir, "running");
  await server.end("SIGTERM");
  for (const [name, content] of await readFiles(dataDir, "stopped")) files.set(name, content);
  for (const [name, content] of await readFiles(backup, "backup")) files.set(name, content);
  return {
    files,
    output: server.output() + said,
    metrics,
    requests: proxy.requests(),
    responses: proxy.responses(),
    errors,
    objects,
    tokens,
    masterKeys,
    keyHashes: [...spy.keyHashes],
    records: spy.records,
    statuses,
  };
}

interface Actors {
  url: string;
  fetch: typeof globalThis.fetch;
  canaries: Canaries;
  errors: unknown[];
}

/** Runs a call that must fail with this code, and keeps the error. */
async function fails({ errors }: Actors, code: TacendaErrorCode, call: () => unknown): Promise<void> {
  try {
    await call();
  } catch (error) {
    errors.push(error);
    if (TacendaError.is(error, code)) return;
  }
  throw new Error(`A call that must fail with ${code} did not.`, { cause: errors.at(-1) });
}

async function administrate(actors: Actors): Promise<Evidence["tokens"]> {
  const { url, canaries } = actors;
  const { project, store } = canaries;
  const admin = new TacendaAdmin({ url, token: canaries.rootToken, project });
  await admin.projects.create(project);
  await admin.stores.create(store, { secrets: "any" });
  const grants = [{ stores: [store], permissions: ["read", "write", "delete"] as const }].map(
    ({ stores, permissions }) => ({ stores, permissions: [...permissions] }),
  );
  const live = await admin.tokens.create("live", grants);
  const revoked = await admin.tokens.create("revoked", grants);
  await admin.tokens.delete(revoked.id);
  await admin.tokens.list();
  await admin.stores.list();
  await fails(actors, "already_exists", () => admin.stores.create(store));
  await fails(actors, "store_not_found", () => admin.stores.get("absent"));
  await admin.stores.create("destroyed");
  await admin.stores.delete("destroyed");
  await fails(actors, "id_retired", () => admin.stores.create("destroyed"));
  await fails(actors, "permission_denied", () => new TacendaAdmin({ url, token: live.token, project }).stores.list());
  return { live: live.token, revoked: revoked.token };
}

/** Everything else a store can do: many at once, versions, deletion, expiry, attributes, a cache, a change of secret. */
async function useWholeDataPlane(client: Tacenda, { store: id, secret, wrongSecret, key, value, metadata }: Canaries) {
  const store = client.getStore(id, { secret, cache: { ttl: "1m" } });
  const many = [`${key} 1`, `${key} 2`];
  await store.setValues(
    many.map((name) => [name, value] as const),
    { metadata: { m: metadata }, expiresIn: "30d" },
  );
  await store.getValues([...many, `${key} 3`]);
  await store.getEntries(many, { onError: "collect" });
  await store.setProtected(`${key} 1`, true);
  await store.setActive(`${key} 1`, false);
  await store.setActive(`${key} 1`, true);
  await store.deleteValue(`${key} 2`);
  await store.listVersions(`${key} 2`);
  await store.restoreVersion(`${key} 2`, 1);
  await store.destroyValue(`${key} 2`);
  const changing = client.getStore(id, { secret: { current: `${wrongSecret}, changed`, previous: [secret] } });
  await store.setValue(`${key} 4`, value);
  const { moved } = await changing.migrateSecret([`${key} 4`]);
  if (moved !== 1) throw new Error("The key was not moved to the new secret.");
}

/** What a backend does, and everything that goes wrong for it. Gives the objects it holds. */
async function useStore(actors: Actors, tokens: Evidence["tokens"]): Promise<unknown[]> {
  const { url, fetch, canaries } = actors;
  const { project, secret, wrongSecret, key, value, metadata } = canaries;
  const client = new Tacenda({ url, fetch, token: tokens.live, project });
  const store = client.getStore(canaries.store, { secret });
  const other = client.getStore(canaries.store, { secret: wrongSecret });
  await store.verify();
  await store.setValue(key, value, { metadata: { [metadata]: metadata } });
  await store.setValue(key, Buffer.from(value));
  await store.setValue(key, value, { metadata: { note: metadata }, ifVersion: 2 });
  if ((await store.getValue(key)) !== value) throw new Error("The value did not come back.");
  await store.getEntry(key);
  await store.setValue(`${key}, as bytes`, Buffer.from(value));
  await useWholeDataPlane(client, canaries);

  if ((await other.getValue(key)) !== null) throw new Error("Another secret found the key.");
  await fails(actors, "not_text", () => store.getValue(`${key}, as bytes`));
  await fails(actors, "conflict", () => store.setValue(key, value, { ifVersion: 1 }));
  await fails(actors, "already_exists", () => store.createValue(key, value));
  await fails(actors, "value_too_large", () => store.setValue(key, value.repeat(20_000)));
  await fails(actors, "value_too_large", () => store.setValue(key, value, { metadata: { m: metadata.repeat(200) } }));
  await fails(actors, "invalid_value", () => store.setValue(key, `${value}\ud800`));
  await fails(actors, "invalid_key", () => store.getValue(key.repeat(20)));
  await fails(actors, "weak_secret", () => store.getValue(key, { secret: secret.slice(0, 30) }));
  await fails(actors, "configuration", () => new Tacenda({ url, token: `${tokens.live} ` }));
  await fails(actors, "configuration", () => client.getStore(key, { secret }));
  const at = (options: { token?: string; project?: string; url?: string }, id = canaries.store): Store =>
    new Tacenda({ url, fetch, token: tokens.live, project, maxAttempts: 1, ...options }).getStore(id, { secret });
  await fails(actors, "token_refused", () => at({ token: tokens.revoked }).setValue(key, value));
  await fails(actors, "token_refused", () => at({ token: `${tokens.live}x` }).getValue(key));
  await fails(actors, "permission_denied", () => at({}, "absent").getValue(key));
  await fails(actors, "store_not_found", () => at({ project: "absent" }).getValue(key));
  await fails(actors, "store_not_found", () => at({ token: canaries.rootToken }, "absent").setValue(key, value));
  await fails(actors, "server_unreachable", () => at({ url: "http://127.0.0.1:1" }).setValue(key, value));
  const hanging = new Tacenda({ url, token: tokens.live, project, timeout: 20, fetch: () => new Promise(() => {}) });
  await fails(actors, "request_timeout", () => hanging.getStore(canaries.store, { secret }).setValue(key, value));
  return [client, store, other];
}

/** Puts one key's record under the other key's hash, as a malicious server could: it must not open. */
async function sealedUnderAnother(actors: Actors, token: string, first: string, second: string): Promise<void> {
  const { url, canaries } = actors;
  const { project, store, secret, key } = canaries;
  const headers = { authorization: `Bearer ${token}`, "content-type": RECORD_MEDIA_TYPE, "if-match": '"1"' };
  const current = await fetch(url + first, { headers: { authorization: headers.authorization } });
  const moved = await fetch(url + second, { method: "PUT", headers, body: await current.arrayBuffer() });
  if (moved.status !== 200) throw new Error(`The record was not moved: ${moved.status}`);
  const fresh = new Tacenda({ url, token, project }).getStore(store, { secret });
  await fails(actors, "record_open", () => fresh.getBytes(`${key}, as bytes`));
}

async function readFiles(folder: string, when: string): Promise<Map<string, Buffer>> {
  const names = await readdir(folder);
  const read = names.map(async (name) => [`${name}, ${when}`, await readFile(join(folder, name))] as const);
  return new Map(await Promise.all(read));
}

/** A `fetch` that does as the real one and notes which records were asked for and written. */
function spyingFetch() {
  const keyHashes = new Set<string>();
  const written: string[] = [];
  const records: Uint8Array[] = [];
  const spying: typeof globalThis.fetch = async (input, init) => {
    const request = new Request(input, init);
    const { pathname } = new URL(request.url);
    const [, hash] = /\/records\/([\w-]{43})$/.exec(pathname) ?? [];
    if (hash !== undefined) keyHashes.add(hash);
    if (request.method === "PUT" && hash !== undefined) {
      if (!written.includes(pathname)) written.push(pathname);
      records.push(new Uint8Array(await request.clone().arrayBuffer()));
    }
    return await globalThis.fetch(request);
  };
  return { fetch: spying, keyHashes, /** Paths of written records, in order. */ written, records };
}
