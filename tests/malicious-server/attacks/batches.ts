/** Attacks on batches: the same as on single records, and on what belongs to which; spec/http.md § Batch. */

import { MAX_VERSION, RecordState, toBase64url } from "@tacenda/protocol";
import { expect } from "vitest";

import type { Mutator } from "../adversary.js";
import type { Arena, Attack } from "../arena.js";
import { broken, current, error, json, made } from "../mutators.js";
import { always, honest, refused, requests, scene } from "./scene.js";

type Results = Record<string, unknown>[];

/** The answer to a batch, with its results changed. */
function results(change: (results: Results) => unknown): Mutator {
  return async (sent, adversary) => {
    const answer = await adversary.pass(sent);
    const body = JSON.parse(Buffer.from(answer.bytes).toString()) as { results: Results };
    return json(answer.status, { results: change(body.results) });
  };
}

/** Two keys with a value each. */
async function pair(arena: Arena) {
  const { key, store, fresh } = await scene(arena);
  const second = arena.freshKey();
  await store.setValue(second, "of the second");
  return { keys: [key, second] as const, store, fresh };
}

export const BATCH_ATTACKS: readonly Attack[] = [
  {
    name: "T6 results of a batch swapped",
    async run(arena) {
      const { keys, fresh } = await pair(arena);
      always(
        arena,
        results((all) => all.toReversed()),
      );
      await expect(fresh.getValues(keys)).rejects.toMatchObject(refused("record_open"));
      const collected = await fresh.getValues(keys, { onError: "collect" });
      expect([...collected.values()]).toEqual([refused("record_open"), refused("record_open")].map(containing));
    },
  },
  {
    name: "T6 a batch with more or fewer results than were asked for",
    async run(arena) {
      const { keys, fresh } = await pair(arena);
      for (const change of [
        (all: Results) => all.slice(1),
        (all: Results) => [...all, ...all],
        () => null,
        () => ({}),
      ]) {
        always(arena, results(change));
        await expect(fresh.getValues(keys)).rejects.toMatchObject(refused("protocol"));
      }
    },
  },
  {
    name: "T8 absence, or an older version, in a batch",
    async run(arena) {
      const { keys, store } = await pair(arena);
      let first: Results = [];
      always(
        arena,
        results((all) => (first = all)),
      );
      await store.getValues(keys);
      honest(arena);
      await store.setValue(keys[1], "2");
      for (const last of [{ status: "absent" }, first[1]]) {
        always(
          arena,
          results((all) => [all[0], last]),
        );
        await expect(store.getValues(keys)).rejects.toMatchObject(refused("rollback"));
      }
    },
  },
  {
    name: "T9 an expiry in a batch that nobody sealed, or that has not come",
    async run(arena) {
      const { keys, fresh } = await pair(arena);
      const record = arena.adversary.exchanges.at(-1)?.body ?? new Uint8Array(0);
      for (const [bytes, code] of [
        [made(RecordState.value, 1), "record_open"],
        [made(RecordState.tombstone, 0), "record_open"],
        [record, "protocol"],
      ] as const) {
        always(
          arena,
          results(() => [{ status: "expired", ...current(1, bytes) }]),
        );
        await expect(fresh.getValues([keys[1]])).rejects.toMatchObject(refused(code));
      }
    },
  },
  {
    name: "T25 a batch acknowledged as other versions",
    async run(arena) {
      const { keys, store } = await pair(arena);
      for (const version of [1, 3, "2", null, MAX_VERSION]) {
        always(arena, () => json(200, { results: [{ version: 2 }, { version }] }));
        await expect(store.setValues(both(keys))).rejects.toMatchObject(refused("protocol"));
      }
    },
  },
  {
    name: "T28 a jump of the version in a batch",
    async run(arena) {
      const { keys, fresh } = await pair(arena);
      const head = toBase64url(made(0, 0));
      always(arena, () =>
        error(412, "version_conflict", { conflicts: [{ index: 1, current: { version: MAX_VERSION - 1, head } }] }),
      );
      await expect(fresh.setValues(both(keys))).rejects.toMatchObject(refused("record_open"));
      expect(requests(arena, "POST")).toBe(1);
    },
  },
  {
    name: "a lost batch, sealed again over another writer's value",
    async run(arena) {
      const { keys, store, fresh } = await pair(arena);
      always(arena, async (sent) => {
        honest(arena);
        await fresh.setValue(keys[0], "of another writer", { ifVersion: 1 });
        throw broken(sent);
      });
      const writing = store.setValues(both(keys));
      await expect(writing).rejects.toMatchObject(refused("outcome_unknown"));
      honest(arena);
      const left = await fresh.getValues(keys);
      expect([...left.values()]).toEqual(["of another writer", "of the second"]);
    },
  },
];

/** A new value for each key. */
function both(keys: readonly string[]): [string, string][] {
  return keys.map((key) => [key, "2"]);
}

function containing(fields: object): unknown {
  return expect.objectContaining(fields);
}
