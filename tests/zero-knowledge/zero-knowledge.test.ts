/**
 * What never leaves the caller is nowhere: not in the server's files, output, metrics and answers, not on the wire, and
 * not in what the SDK throws or shows. Master keys are in their keyring and nowhere else, and when they are destroyed nowhere
 * at all. Tokens are in the authorization header and in the answer that mints them, and
 * nowhere else. spec/http.md § Logs, § Metrics.
 */

import { readFile, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { inspect } from "node:util";

import { TacendaAdmin } from "@tacenda/sdk/admin";
import { describe, expect, test } from "vitest";

import { utf8 } from "../../packages/sdk/src/crypto/bytes.js";
import { deriveKeyRoot, hashSecret, recordKeys } from "../../packages/sdk/src/crypto/derive.js";
import { type Edit, seedServer } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder, spawnServer } from "../server-process.ts";
import { type Canaries, freshCanaries } from "./canaries.ts";
import { type Canary, needlesOf, search } from "./needles.ts";
import { type Evidence, runScenario } from "./scenario.ts";

/** Everything found where it must not be, as `what as form in where`. */
async function findLeaks(evidence: Evidence, canaries: Canaries): Promise<string[]> {
  const own = needlesOf(await ownCanaries(canaries));
  const tokens = needlesOf(tokenCanaries(evidence, canaries));
  const stray = needlesOf([{ name: "stray input", content: canaries.stray }]);
  const names = needlesOf([
    { name: "project", content: canaries.project },
    { name: "store", content: canaries.store },
  ]);
  const hashes = needlesOf(hashCanaries(evidence));
  const records = needlesOf(recordCanaries(evidence));
  const { live, destroyed } = evidence.masterKeys;
  const gone = needlesOf(bothForms("destroyed master key", destroyed));
  const masters = [...gone, ...needlesOf(live.flatMap((key) => bothForms("master key", key)))];

  const leaks: string[] = [];
  const look = (place: string, content: Uint8Array | string, ...needles: (typeof own)[]) =>
    leaks.push(...search(content, needles.flat()).map((found) => `${found} in ${place}`));
  for (const [name, content] of evidence.files) {
    look(`the name of ${name}`, name, own, tokens, stray, hashes);
    look(name, content, own, tokens, stray, hashes, records, /^(keyring|second)\.json,/.test(name) ? gone : masters);
  }
  look("the output", evidence.output, own, tokens, stray, hashes, names, masters);
  look("the metrics", evidence.metrics, own, tokens, stray, hashes, names, masters);
  look("the requests", withoutAuthorization(evidence.requests), own, tokens, masters);
  look("the answers", withoutMinting(evidence.responses), own, tokens, stray, masters);
  for (const error of evidence.errors) look("an error", shown(error), own, tokens, hashes);
  for (const object of evidence.objects) look("an object of the SDK", shown(object), own, tokens, hashes);
  return [...new Set(leaks)];
}

/** What only the caller knows, and what the SDK derives from it to encrypt. */
async function ownCanaries(canaries: Canaries): Promise<Canary[]> {
  const { secret, wrongSecret, key, value, metadata } = canaries;
  const hash = hashSecret(utf8(secret));
  const scope = { project: canaries.project, storeId: canaries.store, iterations: 100_000 };
  const { valueKey } = recordKeys(await deriveKeyRoot(hash, scope, utf8(key)));
  const texts = Object.entries({ secret, wrongSecret, key, value, metadata });
  return [
    ...texts.map(([name, content]) => ({ name, content })),
    { name: "hash of the secret", content: hash },
    { name: "value key", content: valueKey },
  ];
}

/** A token without its public id. */
function secretPart(token: string): string {
  return token.slice("tct_".length + 12);
}

function tokenCanaries({ tokens }: Evidence, { rootToken }: Canaries): Canary[] {
  return [
    { name: "root token", content: rootToken },
    { name: "live token", content: secretPart(tokens.live) },
    { name: "revoked token", content: secretPart(tokens.revoked) },
  ];
}

function hashCanaries({ keyHashes }: Evidence): Canary[] {
  return keyHashes.flatMap((text) => bothForms("key hash", text));
}

/** As text, and the bytes that the text stands for. */
function bothForms(name: string, text: string): Canary[] {
  return [
    { name, content: text },
    { name, content: Buffer.from(text, "base64url") },
  ];
}

/** Salt and commitment of each record, and the beginning of its ciphertext. */
function recordCanaries({ records }: Evidence): Canary[] {
  return records.flatMap((record) => [
    { name: "head of a sealed record", content: record.subarray(11, 75) },
    { name: "ciphertext of a sealed record", content: record.subarray(75, 139) },
  ]);
}

function withoutAuthorization(requests: Buffer): string {
  return requests.toString("latin1").replaceAll(/^authorization: Bearer [^\r\n]*\r\n/gim, "");
}

/** Each token was minted once, and is told once. */
function withoutMinting(responses: Buffer): Buffer {
  return Buffer.from(responses.toString("latin1").replaceAll(/"token":"tct_\w+"/g, '"token":""'), "latin1");
}

/** All that a logger, a debugger or a careless `JSON.stringify` would show. */
function shown(thing: unknown): string {
  const options = { showHidden: true, depth: Infinity, maxArrayLength: Infinity, maxStringLength: Infinity } as const;
  const texts = [inspect(thing, options), inspect(thing, { ...options, breakLength: Infinity, compact: true })];
  texts.push(String(thing), JSON.stringify(thing));
  if (thing instanceof Error) texts.push(thing.message, thing.stack ?? "", shown(thing.cause ?? null));
  return texts.join("\n");
}

describe("zero knowledge", { timeout: 60_000 }, () => {
  test("nothing of the caller's is anywhere", async () => {
    const canaries = freshCanaries();
    const evidence = await runScenario(SERVER_BIN, canaries);
    expect(await findLeaks(evidence, canaries)).toEqual([]);

    // The evidence is what it claims to be, and the search sees what is there.
    const has = (content: Uint8Array | string, text: string) =>
      search(content, needlesOf([{ name: "", content: text }])).length > 0;
    expect([...evidence.files.keys()]).toEqual(
      expect.arrayContaining([
        "tacenda.db, running",
        "tacenda.db-wal, running",
        "keyring.json, stopped",
        "lock, running",
        "second.json, stopped",
        "records.jsonl, backup",
        "keys.jsonl, backup",
      ]),
    );
    expect(has(Buffer.concat([...evidence.files.values()]), canaries.store)).toBe(true);
    for (const key of evidence.masterKeys.live) {
      const keyrings = ["keyring.json", "second.json"].map((name) => evidence.files.get(`${name}, stopped`));
      expect(keyrings.some((content) => content?.includes(key))).toBe(true);
    }
    expect(evidence.masterKeys.destroyed).toHaveLength(43);
    expect(has(evidence.requests, canaries.store)).toBe(true);
    expect(has(evidence.requests, canaries.stray)).toBe(true);
    expect(has(evidence.requests, canaries.rootToken)).toBe(true);
    expect(has(evidence.requests, evidence.keyHashes[0] ?? "")).toBe(true);
    expect(has(evidence.responses, secretPart(evidence.tokens.live))).toBe(true);
    expect(has(evidence.responses, canaries.store)).toBe(true);
    expect(evidence.output).toContain("/v1/projects/:project/stores/:store/records/:hash");
    expect(evidence.metrics).toContain('route="/v1/projects/:project/stores/:store/records/:hash"');
    for (const status of [200, 201, 204, 304, 400, 401, 403, 404, 410, 412, 413, 415, 428]) {
      expect(evidence.statuses).toContain(status);
    }
  });

  const PATHS_FOR_ROUTES: Edit = {
    find: "randomUUID(), route, method,",
    replace: "randomUUID(), route: context.req.path, method,",
  };
  const BUGS: [name: string, found: RegExp, bug: Edit[]][] = [
    ["paths in logs", /key hash.* in the output/, [PATHS_FOR_ROUTES]],
    ["paths in metrics", /store.* in the metrics/, [PATHS_FOR_ROUTES]],
    [
      "key hashes for record ids",
      /key hash.* in tacenda\.db/,
      [{ find: "recordId(keyHash) {", replace: "recordId(keyHash) {\n    return Buffer.from(keyHash);" }],
    ],
    [
      "an earlier keyring that is left beside the present one",
      /destroyed master key.* in keyring\.json\.old/,
      [
        {
          find: "await place(temporary, file);",
          replace:
            'const { copyFile } = await import("node:fs/promises");\n' +
            "      await copyFile(file, `${file}.old`).catch(() => {});\n      await place(temporary, file);",
        },
      ],
    ],
    [
      "a second envelope that does not encrypt",
      /ciphertext of a sealed record.* in tacenda\.db/,
      [
        {
          find: "target.set(cipher.update(plaintext), start);",
          replace: "cipher.update(plaintext);\n  target.set(plaintext, start);",
        },
        {
          find: "const plaintext = decipher.update(source.subarray(start, end));",
          // A copy: unwrapped keys are overwritten after use.
          replace: "return Buffer.from(source.subarray(start, end));",
        },
      ],
    ],
  ];
  test.each(BUGS)("this suite catches %s", async (_, found, bug) => {
    const canaries = freshCanaries();
    const bin = await seedServer(await freshFolder(), bug);
    expect((await findLeaks(await runScenario(bin, canaries), canaries)).join("\n")).toMatch(found);
  });
});

test("a root token made on the first start is in its file and nowhere else", async () => {
  const dataDir = join(await freshFolder(), "data");
  const server = await spawnServer({ dataDir, flags: ["--log-level", "trace"] });
  const { url } = server;
  const file = join(dataDir, "root-token");
  const token = (await readFile(file, "utf8")).trim();
  await new TacendaAdmin({ url, token }).stores.list();
  await server.end("SIGTERM");
  expect((await stat(file)).mode & 0o777).toBe(0o600);

  const needles = needlesOf([{ name: "root token", content: secretPart(token) }]);
  const holders: string[] = [];
  for (const name of await readdir(dataDir)) {
    if (search(await readFile(join(dataDir, name)), needles).length > 0) holders.push(name);
  }
  expect(holders).toEqual(["root-token"]);
  expect(search(server.output(), needles)).toEqual([]);
});

describe("the search of what the SDK shows", () => {
  const token = secretPart(`tct_${"a".repeat(12)}0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM`);
  const needles = needlesOf([{ name: "token", content: token }]);
  const hidden = new Error("hidden");
  Object.defineProperty(hidden, "request", { value: { headers: new Headers({ authorization: `Bearer ${token}` }) } });
  test.each([
    ["a message", new Error(`Bearer ${token}`)],
    ["a cause", new Error("outer", { cause: new Error("inner", { cause: { token } }) })],
    ["a hidden property", hidden],
    ["a buffer", Object.assign(new Error("bytes"), { body: Buffer.from(token) })],
    ["an array of bytes", { body: new Uint8Array(Buffer.from(token)) }],
    ["a map", { options: new Map([["token", token]]) }],
  ])("finds a token in %s", (_, thing) => {
    expect(search(shown(thing), needles)).not.toEqual([]);
  });
});
