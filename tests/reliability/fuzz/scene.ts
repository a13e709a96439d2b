/** What fuzzed requests can hit: a project with stores, tokens and records of every kind; and a canary that they must not. */

import { createHash } from "node:crypto";

import { encodeKeyHash, type Permission } from "@tacenda/protocol";

import { sealedRecord } from "../../../packages/server/test/world.ts";

export const ROOT_TOKEN = "root-token-of-the-fuzzed-server-0123456789abcdef";
/** Part of every name and text that requests hold. No error and no line of the log may hold it. */
export const NEEDLE = "fuzzneedle";

export const STORES = ["a", "b", "any", "gone"] as const;
/** Key hashes whose records are in some state each; the last ones are of records that are not there at first. */
export const HASHES: readonly string[] = Array.from({ length: 9 }, (_, index) =>
  encodeKeyHash(createHash("sha256").update(`${NEEDLE} ${index}`).digest()),
);

export interface Scene {
  project: string;
  /** The project of the token `foreign`. */
  elsewhere: string;
  /** By what they may do; `dead` was deleted, `foreign` is of another project, `root` may do everything. */
  tokens: Readonly<Record<TokenName, string>>;
  /** Ids of tokens that may be deleted. */
  tokenIds: readonly string[];
}

export const TOKEN_NAMES = ["manager", "full", "reader", "writer", "dead", "foreign", "root"] as const;
export type TokenName = (typeof TOKEN_NAMES)[number];

export const CANARY = "canary";
/** Stands for the scene's other project. */
export const ELSEWHERE = "elsewhere";

interface CallOptions {
  token?: string;
  headers?: Record<string, string>;
  json?: unknown;
  body?: Uint8Array;
}

/** A well-behaved request. */
async function call(url: string, method: string, path: string, options: CallOptions = {}): Promise<Response> {
  const { token = ROOT_TOKEN, headers, json, body } = options;
  return await fetch(url + path, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(json !== undefined && { "content-type": "application/json" }),
      ...(body !== undefined && { "content-type": "application/octet-stream" }),
      ...headers,
    },
    ...(json !== undefined ? { body: JSON.stringify(json) } : body !== undefined && { body: body as BodyInit }),
  });
}

async function must(answer: Promise<Response>): Promise<Response> {
  const { status, ok } = await answer;
  if (!ok) throw new Error(`A well-behaved request was answered ${status}.`);
  return await answer;
}

/** Destroys the project of the scene before, if there is one, and makes another. */
export async function setScene(url: string, number: number, before: Scene | undefined): Promise<Scene> {
  const [project, elsewhere] = [`${NEEDLE}-${number}`, `${ELSEWHERE}-${number}`];
  for (const id of before === undefined ? [] : [before.project, before.elsewhere]) {
    // A request may have destroyed it already.
    await call(url, "DELETE", `/v1/projects/${id}`);
  }
  for (const id of [project, elsewhere]) await must(call(url, "POST", "/v1/projects", { json: { id } }));
  const base = `/v1/projects/${project}`;
  for (const id of STORES) {
    await must(
      call(url, "POST", `${base}/stores`, { json: { id, secrets: id === "any" ? "any" : "one", maxVersions: 3 } }),
    );
  }
  await must(call(url, "DELETE", `${base}/stores/gone`));
  const mint = async (permissions: Permission[], stores = "*", of = project) => {
    const json = { name: `${NEEDLE} ${permissions.join()}`, grants: [{ stores: [stores], permissions }] };
    const answer = await must(call(url, "POST", `/v1/projects/${of}/tokens`, { json }));
    return (await answer.json()) as { id: string; token: string };
  };
  const [manager, full, reader, writer, dead, foreign, spare] = await Promise.all([
    mint(["manage"]),
    mint(["read", "write", "delete"]),
    mint(["read"], "a"),
    mint(["write"], "a*"),
    mint(["manage"]),
    mint(["manage"], "*", elsewhere),
    mint(["read"]),
  ]);
  await must(call(url, "DELETE", `${base}/tokens/${dead.id}`));
  for (const store of ["a", "any"]) await fill(url, `${base}/stores/${store}/records`);
  const tokens = { manager, full, reader, writer, dead, foreign };
  return {
    project,
    elsewhere,
    tokens: {
      ...(Object.fromEntries(Object.entries(tokens).map(([name, { token }]) => [name, token])) as Scene["tokens"]),
      root: ROOT_TOKEN,
    },
    tokenIds: [spare.id, dead.id, foreign.id],
  };
}

/** Whether its project has not been destroyed by a request. */
export async function isAlive(url: string, { tokens }: Scene): Promise<boolean> {
  return (await call(url, "GET", "/v1/token", { token: tokens.full })).ok;
}

/** Records of one version, of three, deleted, expired, protected and inactive. */
async function fill(url: string, records: string): Promise<void> {
  const put = (index: number, version: number, record = sealedRecord()) => {
    const precondition: Record<string, string> =
      version === 1 ? { "if-none-match": "*" } : { "if-match": `"${version - 1}"` };
    return must(call(url, "PUT", `${records}/${HASHES[index] ?? ""}`, { headers: precondition, body: record }));
  };
  const patch = (index: number, json: object) =>
    must(call(url, "PATCH", `${records}/${HASHES[index] ?? ""}`, { headers: { "if-match": '"1"' }, json }));
  await Promise.all([
    put(0, 1),
    put(1, 1)
      .then(() => put(1, 2))
      .then(() => put(1, 3)),
    put(2, 1).then(() => put(2, 2, sealedRecord({ state: 1 }))),
    put(3, 1, sealedRecord({ expiresAt: 1_000 })),
    put(4, 1).then(() => patch(4, { protected: true })),
    put(5, 1).then(() => patch(5, { active: false })),
  ]);
}

export interface Canary {
  /** What is wrong with it, if anything. */
  check(): Promise<string | null>;
}

/** Records that no token of a scene can reach, and a token that no request is sent with. */
export async function placeCanary(url: string): Promise<Canary> {
  await must(call(url, "POST", "/v1/projects", { json: { id: CANARY } }));
  const base = `/v1/projects/${CANARY}`;
  await must(call(url, "POST", `${base}/stores`, { json: { id: "a" } }));
  const grants = [{ stores: ["a"], permissions: ["read", "write"] }];
  const minted = await must(call(url, "POST", `${base}/tokens`, { json: { name: CANARY, grants } }));
  const { token } = (await minted.json()) as { token: string };
  const records = HASHES.slice(0, 3).map((hash) => ({
    path: `${base}/stores/a/records/${hash}`,
    body: sealedRecord(),
  }));
  for (const { path, body } of records) {
    await must(call(url, "PUT", path, { token, headers: { "if-none-match": "*" }, body }));
  }
  return {
    async check() {
      for (const { path, body } of records) {
        const answer = await call(url, "GET", path, { token });
        const found = Buffer.from(await answer.arrayBuffer());
        if (answer.status !== 200 || answer.headers.get("etag") !== '"1"')
          return `the canary is answered ${answer.status}`;
        if (Buffer.compare(found, body) !== 0) return "the canary has other bytes";
      }
      return null;
    },
  };
}
