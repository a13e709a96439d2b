/** The server's envelope against the published vectors; spec/vectors/README.md. */

import { createSecretKey, randomBytes } from "node:crypto";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, expect, test } from "vitest";

import type { KeyPurpose } from "../../src/storage/store-key.js";
import { KeyringError, openKeyring } from "../../src/envelope/providers/local-keyring.js";
import { OpenStore } from "../../src/envelope/open-store.js";
import { DataKey, SubkeyPool } from "../../src/envelope/subkeys.js";
import * as reference from "./reference.js";

const VECTORS = new URL("../../../../spec/vectors/", import.meta.url);

interface Vector {
  name: string;
  input: Record<string, unknown>;
  expected: Record<string, string>;
}

async function vectorsOf(type: string): Promise<Vector[]> {
  const folder = new URL(`${type}/`, VECTORS);
  const names = (await readdir(folder)).filter((name) => name.endsWith(".json"));
  expect(names).not.toEqual([]);
  return Promise.all(names.map(async (name) => JSON.parse(await readFile(new URL(name, folder), "utf8")) as Vector));
}

const hex = (value: unknown) => Buffer.from(String(value), "hex");

/** The store a vector is about; keys it does not name are zeros. */
function storeOf({ input }: Vector): OpenStore {
  const zeros = "00".repeat(32);
  const version = Number(input.dataKeyVersion ?? 1);
  const dataKey = new DataKey(version, createSecretKey(hex(input.dataKey ?? zeros)), new SubkeyPool());
  return new OpenStore(
    { project: String(input.project), store: String(input.store) },
    { indexKey: createSecretKey(hex(input.indexKey ?? zeros)), dataKeys: [dataKey], current: dataKey },
  );
}

const versionOf = ({ input }: Vector) => Number(input.version);

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tacenda-vectors-"));
});

afterAll(async () => {
  await rm(folder, { recursive: true });
});

let files = 0;

/** A keyring with this one master key. */
async function keyringWith(id: string, version: number, key: Buffer, check: string) {
  const file = join(folder, `keyring-${files++}.json`);
  const entry = { version, createdAt: "2026-01-01T00:00:00.000Z", key: key.toString("base64url"), check };
  const content = { format: "tacenda-keyring/1", id, current: version, keys: [entry] };
  await writeFile(file, JSON.stringify(content), { mode: 0o600 });
  return openKeyring(file, { create: false });
}

test("record ids", async () => {
  for (const vector of await vectorsOf("record-id")) {
    const keyHash = Buffer.from(String(vector.input.keyHash), "base64url");
    expect(storeOf(vector).recordId(keyHash).toString("hex"), vector.name).toBe(vector.expected.recordId);
  }
});

test("tags of version and attributes", async () => {
  for (const vector of await vectorsOf("attributes")) {
    const state = {
      version: versionOf(vector),
      protected: vector.input.protected === true,
      active: vector.input.active === true,
    };
    const store = storeOf(vector);
    const id = hex(vector.input.recordId);
    expect(store.tag(id, state).toString("hex"), vector.name).toBe(vector.expected.tag);
    expect(store.verifyTag(id, { ...state, tag: hex(vector.expected.tag) }), vector.name).toBe(true);
  }
});

test("secret checks", async () => {
  for (const vector of await vectorsOf("secret-check")) {
    const kept = storeOf(vector).blindSecretCheck(hex(vector.input.secretCheck));
    expect(kept.toString("hex"), vector.name).toBe(vector.expected.kept);
  }
});

test("enclosing", async () => {
  for (const vector of await vectorsOf("enclose")) {
    const record = hex(vector.input.record);
    const id = hex(vector.input.recordId);
    const store = storeOf(vector);
    expect(store.open(id, versionOf(vector), hex(vector.expected.stored)), vector.name).toEqual(record);

    // Salt and nonce are random, so what is made here is opened by the other implementation.
    const place = {
      project: String(vector.input.project),
      store: String(vector.input.store),
      recordId: id,
      version: versionOf(vector),
    };
    const keyVersion = Number(vector.input.dataKeyVersion);
    const made = store.seal(id, place.version, record);
    expect(made, vector.name).toHaveLength(hex(vector.expected.stored).length);
    expect(reference.openBody(hex(vector.input.dataKey), keyVersion, place, made), vector.name).toEqual(record);
  }
});

test("disclosing", async () => {
  const outcomes = new Set<string>();
  for (const vector of await vectorsOf("disclose")) {
    const { recordId, stored } = vector.input;
    const opened = storeOf(vector).open(hex(recordId), versionOf(vector), hex(stored));
    const outcome = opened === null ? { error: "record_damaged" } : { record: opened.toString("hex") };
    expect(outcome, vector.name).toEqual(vector.expected);
    outcomes.add(Object.keys(outcome).join());
  }
  expect([...outcomes].sort()).toEqual(["error", "record"]);
});

test("wraps", async () => {
  const outcomes = new Set<string>();
  for (const vector of [...(await vectorsOf("wrap")), ...(await vectorsOf("unwrap"))]) {
    const { project, store, purpose, keyVersion, masterKey, masterVersion, storeKey, wrap } = vector.input;
    const id = "00".repeat(16);
    const version = Number(masterVersion);
    const check = reference.keyringCheck(id, version, hex(masterKey));
    const keyring = await keyringWith(id, version, hex(masterKey), check);
    const opened = await keyring
      .unwrap(
        { masterVersion: version, wrapped: hex(wrap ?? vector.expected.wrap) },
        { project: String(project), store: String(store), purpose: purpose as KeyPurpose, version: Number(keyVersion) },
      )
      .then(
        (key) => ({ storeKey: Buffer.from(key).toString("hex") }),
        (error: unknown) => ({ error: `wrap_${(error as { fault: string }).fault}` }),
      );
    expect(opened, vector.name).toEqual(storeKey === undefined ? vector.expected : { storeKey });
    outcomes.add(Object.keys(opened).join());
  }
  expect([...outcomes].sort()).toEqual(["error", "storeKey"]);
});

test("checks of keyring files", async () => {
  const file = join(folder, "whole-keyring.json");
  for (const { name, input, expected } of await vectorsOf("keyring-file-check")) {
    const id = String(input.id);
    const keys = (input.keys as { version: number; state: string }[]).map((line) => {
      const key = randomBytes(32);
      const check = reference.keyringCheck(id, line.version, key);
      return line.state === "destroyed" ? line : { ...line, key: key.toString("base64url"), check };
    });
    const write = (check: string) =>
      writeFile(file, JSON.stringify({ format: "tacenda-keyring/2", id, current: input.current, keys, check }), {
        mode: 0o600,
      });
    await write(String(expected.check));
    expect((await openKeyring(file, { create: false })).id, name).toBe(`local:${id}`);
    await write(reference.keyringCheck(id, 1, randomBytes(32)));
    await expect(openKeyring(file, { create: false })).rejects.toThrow("its check is wrong");
  }
});

test("checks of keyring keys", async () => {
  for (const { name, input, expected } of await vectorsOf("keyring-check")) {
    const id = String(input.id);
    const check = String(expected.check);
    const keyring = await keyringWith(id, Number(input.version), hex(input.key), check);
    expect(keyring.id, name).toBe(`local:${id}`);
    await expect(keyringWith(id, Number(input.version) + 1, hex(input.key), check)).rejects.toThrow(KeyringError);
  }
});
