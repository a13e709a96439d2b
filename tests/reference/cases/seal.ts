/** Cases of spec/record.md § Sealing and § Head: what is sealed with a fixed salt, and heads that prove themselves. */

import { seal, sealPayload, bytes } from "../reference.ts";
import { fromHex, toBytes, toHex, type TextOrHex, type Vector } from "../vector.ts";
import { place, type ContentInput } from "../answers.ts";
import { PLACE, SALT, SEALED_AT, fixedBytes, vector } from "./common.ts";

const CONTENT: ContentInput = {
  version: 1,
  state: 0,
  expiresAt: 0,
  kind: 0,
  sealedAt: SEALED_AT,
  metadata: "",
  value: { text: "ghp_example" },
  salt: SALT,
};

const MAX_INTEGER = Number.MAX_SAFE_INTEGER;
/** kind, sealedAt and two lengths. */
const OVERHEAD = 17;

function seals(name: string, change: Partial<ContentInput>): Vector {
  return vector("seal", name, { ...PLACE, ...CONTENT, ...change });
}

function valueFor(payloadLength: number): TextOrHex {
  return { text: "v".repeat(payloadLength - OVERHEAD) };
}

const metadataOf8192 = JSON.stringify({ note: "m".repeat(8_192 - '{"note":""}'.length) });
const bytesValue = { hex: toHex(fixedBytes("bytes value", 48)) };

const sealed = (change: Partial<ContentInput>): Buffer => {
  const content = { ...CONTENT, ...change };
  return seal(place(PLACE), content.version, { ...content, value: toBytes(content.value) }, fromHex(SALT));
};
const headOf = (change: Partial<ContentInput>): Buffer => sealed(change).subarray(0, 75);

/** `bytes` with the lowest bit of one byte flipped. */
export function flipped(original: Uint8Array, index: number): Buffer {
  const changed = Buffer.from(original);
  const at = index < 0 ? changed.length + index : index;
  changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
  return changed;
}

function verifies(name: string, head: Uint8Array, change: Partial<typeof PLACE & { version: number }> = {}): Vector {
  return vector("head", name, { ...PLACE, version: 1, head: toHex(head), ...change });
}

const tombstone = { state: 1, value: { text: "" } };
const deadline = { expiresAt: 1_795_000_000_000 };
const forged = (head: { state: number; expiresAt: number | bigint }) =>
  sealPayload(place(PLACE), 1, { ...head, salt: fromHex(SALT) }, Buffer.alloc(256)).subarray(0, 75);

export const sealCases: Vector[] = [
  seals("text", {}),
  seals("empty text, empty metadata", { value: { text: "" } }),
  seals("bytes", { kind: 1, value: bytesValue }),
  seals("empty bytes", { kind: 1, value: { hex: "" } }),
  seals("bytes that are not UTF-8", { kind: 1, value: { hex: "ff00fe" } }),
  seals("text with a leading byte order mark", { value: { text: "\ufeffvalue" } }),
  seals("text with trailing NULs", { value: { text: "value\0\0" } }),
  seals("metadata", { metadata: '{"owner":"backend","clé":"鍵"}' }),
  seals("metadata with spaces and a repeated name", { metadata: ' { "a" : 1, "a" : 2 } ' }),
  seals("metadata of 8192 bytes", { metadata: metadataOf8192 }),
  seals("expiry", deadline),
  seals("greatest numbers", { version: MAX_INTEGER, sealedAt: MAX_INTEGER, expiresAt: MAX_INTEGER }),
  seals("sealed at 0", { sealedAt: 0 }),
  seals("payload of 256 bytes", { value: valueFor(256) }),
  seals("payload of 257 bytes", { value: valueFor(257) }),
  seals("payload of 5000 bytes", { value: valueFor(5_000) }),
  seals("tombstone", { ...tombstone, version: 2 }),
  seals("moved", { ...tombstone, state: 2, version: 3 }),

  verifies("value", headOf({})),
  verifies("tombstone", headOf(tombstone)),
  verifies("moved", headOf({ ...tombstone, state: 2 })),
  verifies("expiry", headOf(deadline)),
  verifies("greatest version", headOf({ version: MAX_INTEGER }), { version: MAX_INTEGER }),
  verifies(
    "refused: value presented as tombstone",
    bytes(headOf({}).subarray(0, 2), Buffer.of(1), headOf({}).subarray(3)),
  ),
  verifies("refused: expiry added", flipped(headOf({}), 10)),
  verifies(
    "refused: expiry removed",
    bytes(headOf(deadline).subarray(0, 3), Buffer.alloc(8), headOf(deadline).subarray(11)),
  ),
  verifies("refused: salt", flipped(headOf({}), 11)),
  verifies("refused: commitment", flipped(headOf({}), 74)),
  verifies("refused: another version", headOf({}), { version: 2 }),
  verifies("refused: version jump", headOf({}), { version: MAX_INTEGER }),
  verifies("refused: another project", headOf({}), { project: "acme" }),
  verifies("refused: another store", headOf({}), { store: "user-token" }),
  verifies("refused: unknown state, authentic", forged({ state: 3, expiresAt: 0 })),
  verifies("refused: expiry of 2^53, authentic", forged({ state: 0, expiresAt: 2n ** 53n })),
  verifies("refused: unknown format", bytes(Buffer.of(2), headOf({}).subarray(1))),
  verifies("refused: unknown suite", bytes(Buffer.of(1, 2), headOf({}).subarray(2))),
  verifies("refused: 74 bytes", headOf({}).subarray(0, 74)),
  verifies("refused: empty", Buffer.alloc(0)),
];
