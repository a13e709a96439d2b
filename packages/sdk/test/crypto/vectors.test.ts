/** The SDK's cryptography against every known answer of spec/vectors that concerns the client. */

import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { type RecordState, fromBase64url, paddedLength, toBase64url } from "@tacenda/protocol";
import { describe, expect, test } from "vitest";

import { utf8 } from "../../src/crypto/bytes.js";
import {
  type Stretch,
  deriveKeyRoot,
  deriveStoreRoot,
  hashSecret,
  keyRootOfStore,
  recordKeys,
  secretCheck,
} from "../../src/crypto/derive.js";
import { isWholeGeneratedSecret } from "../../src/crypto/generated.js";
import type { ValueKind } from "../../src/crypto/payload.js";
import { openRecord, sealRecord, verifyHead } from "../../src/crypto/record.js";
import { stretchOf } from "../../src/options.js";
import { Secret } from "../../src/secret.js";
import { TacendaError } from "../../src/errors.js";
import { checkKey } from "../../src/value.js";

type TextOrHex = { text: string } | { hex: string };

interface DeriveInput {
  project: string;
  store: string;
  secret: TextOrHex;
  key: string;
  iterations: number;
  stretch: Stretch;
  allowWeakSecret?: boolean;
}

interface PlaceInput {
  project: string;
  store: string;
  keyHash: string;
  valueKey: string;
  version: number;
}

interface ContentInput {
  version: number;
  state: RecordState;
  expiresAt: number;
  kind: ValueKind;
  sealedAt: number;
  metadata: string;
  value: TextOrHex;
  salt: string;
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const fromHex = (text: string) => Uint8Array.from(Buffer.from(text, "hex"));
const bytesOf = (value: TextOrHex) => ("text" in value ? utf8(value.text) : fromHex(value.hex));

function placeOf(input: PlaceInput) {
  const keyHash = fromBase64url(input.keyHash);
  if (keyHash === null) throw new Error("a vector's key hash is not canonical");
  const keys = { keyHash, valueKey: fromHex(input.valueKey) };
  return { keys, place: { project: input.project, storeId: input.store, version: input.version } };
}

async function derive(input: DeriveInput) {
  const { iterations, stretch } = stretchOf({ iterations: input.iterations, stretch: input.stretch });
  const secret = "text" in input.secret ? input.secret.text : fromHex(input.secret.hex);
  const checked = Secret.from(secret, { iterations, allowWeak: input.allowWeakSecret ?? false });
  const key = utf8(checkKey(input.key));
  const secretHash = Secret.hashOf(checked);
  expect(hex(secretHash)).toBe(hex(hashSecret(bytesOf(input.secret))));
  const scope = { project: input.project, storeId: input.store, iterations };
  const storeRoot = await deriveStoreRoot(secretHash, scope);
  const root = stretch === "key" ? await deriveKeyRoot(secretHash, scope, key) : keyRootOfStore(storeRoot, key);
  const { keyHash, valueKey } = recordKeys(root);
  return {
    secretHash: hex(secretHash),
    storeRoot: hex(storeRoot),
    root: hex(root),
    keyHash: toBase64url(keyHash),
    valueKey: hex(valueKey),
    secretCheck: hex(secretCheck(storeRoot, stretch)),
  };
}

function seal(input: PlaceInput & ContentInput) {
  const { keys, place } = placeOf(input);
  const { kind, sealedAt, state, expiresAt } = input;
  const payload = { kind, sealedAt, metadata: utf8(input.metadata), value: bytesOf(input.value) };
  const { record, commitment } = sealRecord(keys, place, { state, expiresAt }, payload, fromHex(input.salt));
  expect(hex(commitment)).toBe(hex(record.subarray(43, 75)));
  const recordSha256 = createHash("sha256").update(record).digest("hex");
  return { recordLength: record.length, recordSha256, record: hex(record) };
}

async function record(input: DeriveInput & ContentInput) {
  const { root, keyHash, valueKey, secretCheck } = await derive(input);
  return { root, keyHash, valueKey, secretCheck, ...seal({ ...input, keyHash, valueKey }) };
}

function open(input: PlaceInput & { record: string }) {
  const { keys, place } = placeOf(input);
  const opened = openRecord(keys, place, fromHex(input.record));
  if (typeof opened === "string") return { error: opened };
  const { kind, sealedAt, metadata, value } = opened.payload;
  return {
    state: opened.state,
    expiresAt: opened.expiresAt,
    kind,
    sealedAt,
    metadata: Buffer.from(metadata).toString(),
    value: kind === 0 ? { text: Buffer.from(value).toString() } : { hex: hex(value) },
  };
}

function head(input: PlaceInput & { head: string }) {
  const { keys, place } = placeOf(input);
  const verified = verifyHead(keys, place, fromHex(input.head));
  if (typeof verified === "string") return { error: verified };
  const { state, expiresAt, commitment } = verified;
  return { state, expiresAt, commitment: hex(commitment) };
}

/** The types of vectors that are the client's; the others are the server's. */
const ANSWERS = {
  record,
  derive,
  padding: (input: { length: number }) => ({ paddedLength: paddedLength(input.length) }),
  seal,
  open,
  head,
  "generated-secret": (input: { text: string }) => ({ valid: isWholeGeneratedSecret(input.text) }),
} as Record<string, (input: unknown) => unknown>;

const folder = fileURLToPath(new URL("../../../../spec/vectors", import.meta.url));

describe.each(Object.keys(ANSWERS))("vectors of type %s", (type) => {
  const files = readdirSync(join(folder, type));

  test("there are some", () => expect(files.length).toBeGreaterThan(0));

  test.each(files)("%s", async (file) => {
    const vector = JSON.parse(readFileSync(join(folder, type, file), "utf8")) as { input: unknown; expected: unknown };
    let actual: unknown;
    try {
      actual = await ANSWERS[type]?.(vector.input);
    } catch (error) {
      if (!TacendaError.is(error)) throw error;
      actual = { error: error.code };
    }
    expect(actual).toEqual(vector.expected);
    // What seals also opens again.
    if (type === "seal")
      expect(open({ ...(vector.input as PlaceInput), record: (actual as { record: string }).record })).toBeTruthy();
  });
});
