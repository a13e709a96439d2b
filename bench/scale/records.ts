/** The records of P9: found by hashes that anybody with the seed can work out again, so that no list of millions is kept. */

import { createHmac } from "node:crypto";

import { DEFAULT_PROJECT } from "@tacenda/protocol";
import type { StoreKeys } from "@tacenda/server";

import type { Row } from "../bulk.ts";
import { RECORD_BYTES, STORE, fillRecord } from "../fixture.ts";

/** A store whose keys are unwrapped. */
export type OpenStore = NonNullable<Awaited<ReturnType<StoreKeys["open"]>>>;

/** Index bits of a number to sort by; the rest are the beginning of an id, enough to put nearly all in their order. */
const INDEX_BITS = 24n;
export const MAX_RECORDS = 2 ** Number(INDEX_BITS);
const ID_BYTES = 32;
const STATE = { version: 1, protected: false, active: true };

/** What a client would have derived from its key number `index`: as random, but nobody has to remember it. */
export function hashAt(seed: string, index: number): Buffer {
  const number = Buffer.allocUnsafe(4);
  number.writeUInt32BE(index);
  return createHmac("sha256", seed).update(number).digest();
}

/** @throws {Error} when the server has no such store. */
export async function openStore(keys: StoreKeys): Promise<OpenStore> {
  const store = await keys.open(DEFAULT_PROJECT, STORE);
  if (store === null) throw new Error("The store has no keys.");
  return store;
}

/**
 * `count` records as the server itself would have stored them: blinded ids, tags, and bodies that it opens. In the order of
 * their ids, so that trees grow at one end, as far as 40 bits tell it; or `shuffled`, as clients would write them.
 */
export function* sealedRows(
  store: OpenStore,
  { seed, count, shuffled }: { seed: string; count: number; shuffled: boolean },
): Generator<Row, undefined> {
  const ids = Buffer.allocUnsafeSlow(count * ID_BYTES);
  const order = new BigUint64Array(count);
  for (let index = 0; index < count; index++) {
    const id = store.recordId(hashAt(seed, index));
    ids.set(id, index * ID_BYTES);
    order[index] = ((id.readBigUInt64BE() >> INDEX_BITS) << INDEX_BITS) | BigInt(index);
  }
  if (!shuffled) order.sort();
  const record = Buffer.allocUnsafe(RECORD_BYTES);
  for (const place of order) {
    const start = Number(BigInt.asUintN(Number(INDEX_BITS), place)) * ID_BYTES;
    const id = ids.subarray(start, start + ID_BYTES);
    fillRecord(record, 0);
    yield { store: STORE, id, tag: store.tag(id, STATE), body: store.seal(id, STATE.version, record) };
  }
}
