/** Bytes of record ids, bodies and tags against a second computation; spec/envelope.md § Record ids, § Bodies, § Tags. */

import { createSecretKey, randomBytes } from "node:crypto";

import { MAX_RECORD_BYTES, MAX_VERSION } from "@tacenda/protocol";
import { describe, expect, test } from "vitest";

import { BODY_OVERHEAD_BYTES, OpenStore, dataKeyVersion } from "../../src/envelope/open-store.js";
import { DataKey, SubkeyPool } from "../../src/envelope/subkeys.js";
import * as reference from "./reference.js";

const indexKey = randomBytes(32);
const dataKeys = [randomBytes(32), randomBytes(32), randomBytes(32)] as const;

function makeStore(project: string, store: string, options: { sealsPerSalt?: number; maxSubkeys?: number } = {}) {
  const pool = new SubkeyPool(options);
  const keys = dataKeys.map((key, index) => new DataKey(index + 1, createSecretKey(key), pool));
  const current = keys[1] ?? expect.unreachable();
  return new OpenStore({ project, store }, { indexKey: createSecretKey(indexKey), dataKeys: keys, current });
}

const store = makeStore("default", "user-tokens");
const keyHash = randomBytes(32);
const id = store.recordId(keyHash);
const placeOf = (version: number) => ({ project: "default", store: "user-tokens", recordId: id, version });
const saltOf = (body: Uint8Array) => Buffer.from(body.subarray(5, 21)).toString("hex");

test("a record id is the HMAC of the key hash", () => {
  expect(id).toEqual(reference.recordId(indexKey, keyHash));
  expect(id).not.toEqual(store.recordId(randomBytes(32)));
});

describe("bodies", () => {
  test.each([1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, MAX_VERSION])(
    "have the given bytes at version %i",
    (version) => {
      const record = randomBytes(422);
      const body = store.seal(id, version, record);
      expect(body).toHaveLength(422 + 49);
      expect(BODY_OVERHEAD_BYTES).toBe(49);
      expect(dataKeyVersion(body)).toBe(2);
      expect(reference.openBody(dataKeys[1], 2, placeOf(version), body)).toEqual(record);

      const made = reference.sealBody(dataKeys[2], 3, placeOf(version), randomBytes(16), randomBytes(12), record);
      expect(store.open(id, version, made)).toEqual(record);
      expect(store.open(id, version, new Uint8Array(made))).toEqual(record);
    },
  );

  test.each([0, 1, MAX_RECORD_BYTES])("hold %i bytes", (length) => {
    const record = randomBytes(length);
    expect(store.open(id, 1, store.seal(id, 1, record))).toEqual(record);
  });

  test("do not open with any bit changed, cut short or lengthened", () => {
    const body = store.seal(id, 1, randomBytes(100));
    for (let index = 0; index < body.length; index++) {
      for (let bit = 0; bit < 8; bit++) {
        const changed = Buffer.from(body);
        changed[index] = (changed[index] ?? 0) ^ (1 << bit);
        expect(store.open(id, 1, changed), `bit ${bit} of byte ${index}`).toBeNull();
      }
      expect(store.open(id, 1, body.subarray(0, index))).toBeNull();
    }
    expect(store.open(id, 1, Buffer.concat([body, Buffer.alloc(1)]))).toBeNull();
    expect(store.open(id, 1, body)).not.toBeNull();
  });

  test("open for no other record, version, store or project", () => {
    const body = store.seal(id, 1, randomBytes(100));
    expect(store.open(store.recordId(randomBytes(32)), 1, body)).toBeNull();
    expect(store.open(id, 2, body)).toBeNull();
    expect(store.open(id, 1 + 2 ** 32, body)).toBeNull();
    // The same keys, so that only the names differ.
    expect(makeStore("default", "user-token").open(id, 1, body)).toBeNull();
    expect(makeStore("defaultu", "ser-tokens").open(id, 1, body)).toBeNull();
    expect(makeStore("default", "user-tokens").open(id, 1, body)).not.toBeNull();
  });

  test("and tags of versions that no record can have are damaged, and stop nobody", () => {
    const body = store.seal(id, 1, randomBytes(100));
    for (const version of [0, -1, -(2 ** 40), 2 ** 53, 2 ** 63, -(2 ** 63)]) {
      expect(store.open(id, version, body), String(version)).toBeNull();
      expect(store.verifyTag(id, { version, protected: false, active: true, tag: randomBytes(32) })).toBe(false);
    }
  });

  test("share a salt until it has been used as often as allowed, and never a nonce", () => {
    const rotating = makeStore("default", "user-tokens", { sealsPerSalt: 5 });
    const bodies = Array.from({ length: 15 }, () => rotating.seal(id, 1, Buffer.from("same")));
    const salts = bodies.map(saltOf);
    expect(salts.slice(0, 5)).toEqual(Array(5).fill(salts[0]));
    expect(salts.slice(5, 10)).toEqual(Array(5).fill(salts[5]));
    expect(new Set(salts).size).toBe(3);
    expect(new Set(bodies.map((body) => body.subarray(21, 33).toString("hex"))).size).toBe(15);
    for (const body of bodies) expect(store.open(id, 1, body)).toEqual(Buffer.from("same"));
  });

  test("are sealed under a salt of their own by every process, 2^24 times unless told otherwise", () => {
    expect(saltOf(makeStore("default", "user-tokens").seal(id, 1, keyHash))).not.toBe(
      saltOf(store.seal(id, 1, keyHash)),
    );
    expect(new SubkeyPool().sealsPerSalt).toBe(16_777_216);
  });

  test("open whatever the cache of subkeys still holds", () => {
    const small = makeStore("default", "user-tokens", { sealsPerSalt: 1, maxSubkeys: 2 });
    const bodies = Array.from({ length: 10 }, (_, index) => small.seal(id, 1, Buffer.from([index])));
    for (let round = 0; round < 3; round++) {
      bodies.forEach((body, index) => {
        expect(small.open(id, 1, body)).toEqual(Buffer.from([index]));
      });
    }
  });

  test("find the subkeys that were used last in the cache, and those only", () => {
    const dataKey = new DataKey(1, createSecretKey(dataKeys[0]), new SubkeyPool({ maxSubkeys: 2 }));
    const [one, two, three] = [randomBytes(16), randomBytes(16), randomBytes(16)] as const;
    const first = dataKey.subkeyForOpening(one);
    dataKey.subkeyForOpening(two);
    expect(dataKey.subkeyForOpening(Buffer.from(one))).toBe(first);
    dataKey.subkeyForOpening(three);
    expect(dataKey.subkeyForOpening(one)).toBe(first);
    dataKey.subkeyForOpening(two);
    dataKey.subkeyForOpening(three);
    const again = dataKey.subkeyForOpening(one);
    expect(again).not.toBe(first);
    expect(again.equals(first)).toBe(true);
  });

  test("of two data keys are told apart although they name one salt", () => {
    const salt = randomBytes(16);
    const records = [1, 2, 3].map((version) => Buffer.from(`under data key ${version}`));
    records.forEach((record, index) => {
      const key = dataKeys[index] ?? expect.unreachable();
      const body = reference.sealBody(key, index + 1, placeOf(1), salt, randomBytes(12), record);
      expect(store.open(id, 1, body)).toEqual(record);
    });
  });
});

describe("tags", () => {
  const states = [1, 2, 2 ** 32, MAX_VERSION].flatMap((version) =>
    [0, 1, 2, 3].map((flags) => ({ version, protected: (flags & 1) !== 0, active: (flags & 2) !== 0, flags })),
  );

  test("are what a second computation gives", () => {
    for (const state of states) {
      expect(store.tag(id, state)).toEqual(reference.tag(indexKey, placeOf(state.version), state.flags));
    }
  });

  test("verify for their own state and record only", () => {
    for (const made of states) {
      const tag = store.tag(id, made);
      for (const shown of states) expect(store.verifyTag(id, { ...shown, tag })).toBe(made === shown);
      expect(store.verifyTag(store.recordId(randomBytes(32)), { ...made, tag })).toBe(false);
      expect(makeStore("default", "other").verifyTag(id, { ...made, tag })).toBe(false);
    }
  });

  test("that are missing, short or long do not verify", () => {
    const state = { version: 1, protected: false, active: true };
    const tag = store.tag(id, state);
    expect(store.verifyTag(id, state)).toBe(false);
    for (const wrong of [Buffer.alloc(0), tag.subarray(0, 31), Buffer.concat([tag, tag])]) {
      expect(store.verifyTag(id, { ...state, tag: wrong })).toBe(false);
    }
    expect(store.verifyTag(id, { ...state, tag: new Uint8Array(tag) })).toBe(true);
  });
});
