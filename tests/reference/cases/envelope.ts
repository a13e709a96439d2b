/** Cases of spec/envelope.md: record ids, subkeys, stored bytes, attribute tags, secret checks, wraps, keyring checks. */

import { encloseRecord, recordId, wrapKey, seal } from "../reference.ts";
import { fromHex, toHex, type Vector } from "../vector.ts";
import { place } from "../answers.ts";
import { PLACE, SALT, SEALED_AT, fixedBytes, vector } from "./common.ts";
import { flipped } from "./seal.ts";

const content = { state: 0, expiresAt: 0, kind: 0, sealedAt: SEALED_AT, metadata: "" };
const sealed = seal(place(PLACE), 1, { ...content, value: Buffer.from("ghp_example") }, fromHex(SALT));

const indexKey = fixedBytes("index key", 32);
const dataKey = fixedBytes("data key", 32);
const salt = fixedBytes("process salt", 16);
const nonce = fixedBytes("nonce", 12);
const id = recordId(indexKey, Buffer.from(PLACE.keyHash, "base64url"));

const STORED = {
  project: PLACE.project,
  store: PLACE.store,
  recordId: toHex(id),
  version: 1,
  dataKey: toHex(dataKey),
  dataKeyVersion: 1,
};
const stored = encloseRecord({ ...STORED, recordId: id, dataKey }, sealed, salt, nonce);

function discloses(name: string, bytes: Uint8Array, change: Partial<typeof STORED> = {}): Vector {
  return vector("disclose", name, { ...STORED, stored: toHex(bytes), ...change });
}

const WRAP = {
  project: PLACE.project,
  store: PLACE.store,
  purpose: "data" as "data" | "index",
  keyVersion: 1,
  masterKey: toHex(fixedBytes("master key", 32)),
  masterVersion: 1,
};
const wrap = wrapKey(fromHex(WRAP.masterKey), 1, WRAP, dataKey, nonce);

function unwraps(name: string, bytes: Uint8Array, change: Partial<typeof WRAP> = {}): Vector {
  return vector("unwrap", name, { ...WRAP, wrap: toHex(bytes), ...change });
}

const ATTRIBUTES = {
  indexKey: toHex(indexKey),
  project: PLACE.project,
  store: PLACE.store,
  recordId: toHex(id),
  version: 1,
  protected: false,
  active: true,
};

const SECRET_CHECK = {
  indexKey: toHex(indexKey),
  project: PLACE.project,
  store: PLACE.store,
  secretCheck: toHex(fixedBytes("secret check", 32)),
};

export const envelopeCases: Vector[] = [
  vector("record-id", "of github:42", { indexKey: toHex(indexKey), keyHash: PLACE.keyHash }),

  vector("enclose", "sealed record", { ...STORED, record: toHex(sealed), salt: toHex(salt), nonce: toHex(nonce) }),
  vector("enclose", "greatest versions", {
    ...STORED,
    version: Number.MAX_SAFE_INTEGER,
    dataKeyVersion: 0xffffffff,
    record: toHex(sealed),
    salt: toHex(salt),
    nonce: toHex(nonce),
  }),

  discloses("sealed record", stored),
  discloses("refused: another project", stored, { project: "acme" }),
  discloses("refused: another store", stored, { store: "user-token" }),
  discloses("refused: another record", stored, { recordId: toHex(fixedBytes("record id", 32)) }),
  discloses("refused: another version", stored, { version: 2 }),
  discloses("refused: another data-key version", stored, { dataKeyVersion: 2 }),
  discloses("refused: data-key version changed in the body", flipped(stored, 4)),
  discloses("refused: data-key version changed in both", flipped(stored, 4), { dataKeyVersion: 0 }),
  discloses("refused: another data key", stored, { dataKey: toHex(fixedBytes("another data key", 32)) }),
  discloses("refused: unknown format", Buffer.concat([Buffer.of(2), stored.subarray(1)])),
  discloses("refused: salt changed", flipped(stored, 5)),
  discloses("refused: nonce changed", flipped(stored, 21)),
  discloses("refused: ciphertext changed", flipped(stored, 33)),
  discloses("refused: tag changed", flipped(stored, -1)),
  discloses("refused: cut short", stored.subarray(0, -1)),
  discloses("refused: shorter than a tag", stored.subarray(0, 40)),
  discloses("refused: empty", Buffer.alloc(0)),

  ...[false, true].flatMap((isProtected) =>
    [false, true].map((active) => {
      const name = `${isProtected ? "protected" : "not protected"}, ${active ? "active" : "inactive"}`;
      return vector("attributes", name, { ...ATTRIBUTES, protected: isProtected, active });
    }),
  ),
  vector("attributes", "another version", { ...ATTRIBUTES, version: Number.MAX_SAFE_INTEGER }),
  vector("attributes", "another store", { ...ATTRIBUTES, store: "user-token" }),

  vector("secret-check", "of a store", SECRET_CHECK),
  vector("secret-check", "another check", { ...SECRET_CHECK, secretCheck: toHex(fixedBytes("another check", 32)) }),
  vector("secret-check", "another store", { ...SECRET_CHECK, store: "user-token" }),
  vector("secret-check", "another project", { ...SECRET_CHECK, project: "acme" }),

  vector("wrap", "data key", { ...WRAP, storeKey: toHex(dataKey), nonce: toHex(nonce) }),
  vector("wrap", "index key", { ...WRAP, purpose: "index", storeKey: toHex(indexKey), nonce: toHex(nonce) }),
  vector("wrap", "later versions", {
    ...WRAP,
    keyVersion: 7,
    masterVersion: 3,
    storeKey: toHex(dataKey),
    nonce: toHex(nonce),
  }),

  unwraps("data key", wrap),
  unwraps("refused: another project", wrap, { project: "acme" }),
  unwraps("refused: another store", wrap, { store: "user-token" }),
  unwraps("refused: another purpose", wrap, { purpose: "index" }),
  unwraps("refused: another key version", wrap, { keyVersion: 2 }),
  unwraps("refused: another master version", wrap, { masterVersion: 2 }),
  unwraps("refused: another master key", wrap, { masterKey: toHex(fixedBytes("another master key", 32)) }),
  unwraps("refused: unknown format", Buffer.concat([Buffer.of(2), wrap.subarray(1)])),
  unwraps("refused: master version changed in the wrap", flipped(wrap, 4)),
  unwraps("refused: nonce changed", flipped(wrap, 5)),
  unwraps("refused: tag changed", flipped(wrap, -1)),
  unwraps("refused: 64 bytes", wrap.subarray(0, -1)),
  unwraps("refused: 66 bytes", Buffer.concat([wrap, Buffer.of(0)])),

  vector("keyring-check", "version 1", {
    id: toHex(fixedBytes("keyring", 16)),
    version: 1,
    key: WRAP.masterKey,
  }),
  vector("keyring-check", "version 2", {
    id: toHex(fixedBytes("keyring", 16)),
    version: 2,
    key: WRAP.masterKey,
  }),
  vector("keyring-file-check", "one key", {
    id: toHex(fixedBytes("keyring", 16)),
    current: 1,
    keys: [{ version: 1, createdAt: "2026-01-01T00:00:00.000Z", state: "enabled" }],
  }),
  vector("keyring-file-check", "three keys, one of each state", {
    id: toHex(fixedBytes("keyring", 16)),
    current: 3,
    keys: ["destroyed", "retired", "enabled"].map((state, index) => ({
      version: index + 1,
      createdAt: `2026-0${index + 1}-01T00:00:00.000Z`,
      state,
    })),
  }),
];
