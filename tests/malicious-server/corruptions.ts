/**
 * Records that differ from a good one in one way each, some of them sealed under the right keys. All of them must fail alike:
 * the same error and message, after the same requests; spec/record.md § Opening.
 */

import { type Place, derive, lp, padded, sealPayload, u64, u8 } from "../reference/reference.js";
import { expect } from "vitest";

import type { World } from "../world.js";
import type { Arena, Attack } from "./arena.js";
import { REGION_NAMES, flipped } from "./mutators.js";

const SEALED_AT = 1_800_000_000_000;

type Bytes = Uint8Array<ArrayBuffer>;

interface Corruption {
  name: string;
  record: Bytes;
}

/** Payloads that no SDK makes, each under an authentic seal. */
function payloads(): Record<string, { state?: number; expiresAt?: bigint; payload: Uint8Array }> {
  const nonZero = (index: number) => Uint8Array.from(GOOD).fill(1, index, index + 1);
  return {
    "first byte of padding": { payload: nonZero(18) },
    "last byte of padding": { payload: nonZero(255) },
    "padding too long": { payload: Buffer.concat([GOOD, Buffer.alloc(16)]) },
    "padding too short": { payload: payloadOf(0, "", "v".repeat(300)).subarray(0, -1) },
    "unknown kind": { payload: payloadOf(2, "", "1") },
    "text that is not UTF-8": { payload: payloadOf(0, "", Buffer.of(0xff)) },
    "metadata that are no object": { payload: payloadOf(0, "[]", "1") },
    "metadata that are not JSON": { payload: payloadOf(0, "{", "1") },
    "metadata that begin with a mark": { payload: payloadOf(0, "\ufeff{}", "1") },
    "time out of range": { payload: payloadOf(0, "", "1", 2n ** 53n) },
    "expiry out of range": { payload: GOOD, expiresAt: 2n ** 53n },
    "tombstone with a value": { payload: GOOD, state: 1 },
    "moved mark with metadata": { payload: payloadOf(0, "{}", ""), state: 2 },
    "unknown state": { payload: payloadOf(0, "", ""), state: 3 },
    "value length beyond the end": { payload: Uint8Array.from(GOOD).fill(0xff, 13, 17) },
    "metadata length beyond the end": { payload: Uint8Array.from(GOOD).fill(0xff, 9, 13) },
  };
}

/** The key of all records here: to derive it costs the reference a while. */
const KEY = "sealed by another holder of the secret";
const places = new WeakMap<World, Place>();

/** Where the records of the key in the store "user-tokens" stand, and what they are sealed with, by the reference. */
function placeOf(world: World): Place {
  const scope = { project: "default", store: "user-tokens" };
  const known = places.get(world);
  if (known !== undefined) return known;
  const derived = derive({ ...scope, secret: world.secret, key: KEY, iterations: 100_000, stretch: "store" });
  const place = { ...scope, keyHash: derived.keyHash, valueKey: derived.valueKey };
  places.set(world, place);
  return place;
}

function payloadOf(kind: number, metadata: string, value: string | Uint8Array, sealedAt = BigInt(SEALED_AT)): Buffer {
  return padded(Buffer.concat([u8(kind), u64(sealedAt), lp(metadata), lp(value)]));
}

const GOOD = payloadOf(0, "", "1");

function seal(place: Place, payload: Uint8Array, { state = 0, expiresAt = 0n, version = 1 } = {}): Bytes {
  const salt = crypto.getRandomValues(new Uint8Array(32));
  return Uint8Array.from(sealPayload(place, version, { state, expiresAt, salt }, payload));
}

/** An authentic version 1 of a key, sealed by a holder of the secret who is no client of ours. */
export function sealedBeside(world: World, head: { expiresAt: bigint }): { key: string; record: Bytes } {
  return { key: KEY, record: seal(placeOf(world), GOOD, head) };
}

/** Each corruption. */
function corruptionsOf(world: World): Corruption[] {
  const place = placeOf(world);
  const record = seal(place, GOOD);
  const regions = REGION_NAMES.filter((name) => !/format|suite/.test(name));
  return [
    ...regions.map((name) => ({ name, record: flipped(record, name) })),
    ...Object.entries(payloads()).map(([name, { payload, ...head }]) => ({ name, record: seal(place, payload, head) })),
    { name: "another version's", record: seal(place, GOOD, { version: 2 }) },
    { name: "another store's", record: seal({ ...place, store: "other" }, GOOD) },
    { name: "another project's", record: seal({ ...place, project: "other" }, GOOD) },
    { name: "another key hash", record: seal({ ...place, keyHash: Buffer.alloc(32) }, GOOD) },
    { name: "another value key", record: seal({ ...place, valueKey: Buffer.alloc(32) }, GOOD) },
  ];
}

/** What a caller, and the server, can tell of a failure. */
interface Failure {
  name: unknown;
  code: unknown;
  message: unknown;
  keys: string[];
  requests: string[];
}

/** How each corruption fails, for a client that has never seen the key. A record without corruption is read, to begin with. */
export async function failuresOf(arena: Arena): Promise<Map<string, Failure>> {
  const { adversary, clients, world } = arena;
  const store = clients[0].stores[0];
  const failures = new Map<string, Failure>();
  for (const { name, record } of corruptionsOf(world)) {
    adversary.begin(() => () => ({ status: 200, headers: new Headers({ etag: '"1"' }), bytes: record }));
    const error = await store.getValue(KEY).then(
      () => expect.fail(`not refused: ${name}`),
      (reason: unknown) => reason as Error & { code?: unknown },
    );
    const requests = adversary.exchanges.map(
      ({ method, url, headers }) => `${method} ${url.pathname}${url.search} ${JSON.stringify([...headers])}`,
    );
    adversary.begin(undefined);
    failures.set(name, {
      name: error.name,
      code: error.code,
      message: error.message,
      keys: Object.keys(error).toSorted(),
      requests,
    });
  }
  return failures;
}

/** All of them fail, and alike. */
export const CORRUPTIONS_ATTACK: Attack = {
  name: "T12 corruptions told apart",
  async run(arena) {
    const failures = await failuresOf(arena);
    const [first] = failures.values();
    expect(first).toMatchObject({ name: "RecordOpenError", code: "record_open" });
    expect(first?.requests.length).toBe(1);
    for (const [name, failure] of failures) expect({ name, failure }).toEqual({ name, failure: first });
  },
};
