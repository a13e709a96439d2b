/** Attacks on what records say: altered, swapped, or sent in the clear; spec/record.md § Opening. */

import { HEAD_BYTES, RecordState } from "@tacenda/protocol";
import { expect } from "vitest";

import type { Arena, Attack } from "../arena.js";
import { REGION_NAMES, altered, flipped } from "../mutators.js";
import { always, refused, scene } from "./scene.js";

export const RECORD_ATTACKS: readonly Attack[] = [
  {
    name: "T1 weak parameters in headers",
    async run(arena) {
      const { key, fresh, written } = await scene(arena);
      const headers = {
        "tacenda-iterations": "1",
        "tacenda-suite": "0",
        "tacenda-stretch": "none",
        "content-type": "x",
      };
      always(arena, async (sent, adversary) => altered(await adversary.pass(sent), { headers }));
      expect(await fresh.getValue(key)).toBe("1");
      expect(arena.adversary.exchanges.map(({ url }) => url.pathname)).toEqual([written.url.pathname]);
    },
  },
  ...REGION_NAMES.map((region) => {
    return {
      name: `T5 one bit of ${region}`,
      async run(arena: Arena) {
        const { key, fresh } = await scene(arena);
        always(arena, async (sent, adversary) => {
          const answer = await adversary.pass(sent);
          return altered(answer, { bytes: flipped(answer.bytes, region) });
        });
        const code = ["format", "suite"].includes(region) ? "unsupported_format" : "record_open";
        await expect(fresh.getValue(key)).rejects.toMatchObject(refused(code));
      },
    };
  }),
  {
    name: "T6 a record of another key, store or version",
    async run(arena) {
      const { key, store, other, fresh, written } = await scene(arena);
      const second = arena.freshKey();
      await store.setValue(second, "of another key");
      await other.setValue(key, "of another store");
      await store.setValue(key, "2");
      const [ofKey, ofStore, ofVersion] = arena.adversary.exchanges.slice(1);
      for (const [sent, etag] of [
        [ofKey, '"1"'],
        [ofStore, '"1"'],
        [ofVersion, '"1"'],
        [ofVersion, '"3"'],
        [written, '"2"'],
      ] as const) {
        const bytes = sent?.body ?? new Uint8Array(0);
        always(arena, () => ({ status: 200, headers: new Headers({ etag }), bytes }));
        await expect(fresh.getValue(key)).rejects.toMatchObject(refused("record_open"));
      }
    },
  },
  {
    name: "T6 a place that is not bound into the seal",
    run({ sdk: { record } }) {
      const keys = { keyHash: new Uint8Array(32).fill(1), valueKey: new Uint8Array(32).fill(2) };
      const place = { project: "p", storeId: "s", version: 1 };
      const payload = { kind: 0, sealedAt: 1, metadata: new Uint8Array(0), value: new Uint8Array(0) } as const;
      const sealed = record.sealRecord(keys, place, { state: RecordState.value, expiresAt: 5 }, payload).record;
      expect(record.openRecord(keys, place, sealed)).toMatchObject({ version: 1 });
      const tombstone = Uint8Array.from(sealed).fill(RecordState.tombstone, 2, 3);
      const later = Uint8Array.from(sealed).fill(6, 10, 11);
      for (const [otherKeys, otherPlace, bytes] of [
        [{ ...keys, keyHash: new Uint8Array(32) }, place, sealed],
        [keys, { ...place, project: "q" }, sealed],
        [keys, { ...place, storeId: "t" }, sealed],
        [keys, { ...place, version: 2 }, sealed],
        [keys, { ...place, project: "ps", storeId: "" }, sealed],
        [keys, place, tombstone],
        [keys, place, later],
      ] as const) {
        expect(record.openRecord(otherKeys, otherPlace, bytes)).toBe("record_open");
        expect(record.verifyHead(otherKeys, otherPlace, bytes.subarray(0, HEAD_BYTES))).toBe("record_open");
      }
    },
  },
  {
    name: "T7 a date, a flag and a type that only the server claims",
    async run(arena) {
      const { key, fresh } = await scene(arena);
      const headers = { "tacenda-created-at": "9".repeat(20), "tacenda-attributes": "__proto__" };
      always(arena, async (sent, adversary) => altered(await adversary.pass(sent), { headers }));
      const entry = await fresh.getEntry(key);
      expect(entry).toMatchObject({ value: "1", claimed: { createdAt: null, protected: false } });
    },
  },
  {
    name: "T11 a value in the clear",
    async run(arena) {
      const { key, fresh } = await scene(arena);
      for (const text of ["the server's value", "v".repeat(347), "\u0001\u0001\u0000".padEnd(347, "v")]) {
        const bytes = new Uint8Array(Buffer.from(text));
        always(arena, () => ({ status: 200, headers: new Headers({ etag: '"1"' }), bytes }));
        for (const options of [{}, { version: 1 }]) {
          const outcome = await fresh.getValue(key, options).catch((reason: unknown) => reason);
          expect(arena.sdk.TacendaError.is(outcome) && outcome.code).toMatch(/^(record_open|unsupported_format)$/);
        }
      }
    },
  },
  {
    name: "T12 a second request after a record that does not open",
    async run(arena) {
      const { key, fresh } = await scene(arena);
      always(arena, async (sent, adversary) => {
        const answer = await adversary.pass(sent);
        return altered(answer, { bytes: flipped(answer.bytes, "tag") });
      });
      await expect(fresh.getValue(key)).rejects.toMatchObject(refused("record_open"));
      expect(arena.adversary.exchanges.length).toBe(1);
    },
  },
];
