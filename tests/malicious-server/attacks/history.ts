/** Attacks on what has been: older states, absence, and deletion or expiry that nobody sealed; spec/record.md § Marks, § Head. */

import { RecordState } from "@tacenda/protocol";
import { expect } from "vitest";

import type { Attack } from "../arena.js";
import { sealedBeside } from "../corruptions.js";
import { acknowledged, current, error, made, versionSealed } from "../mutators.js";
import { always, caught, honest, refused, scene } from "./scene.js";

export const HISTORY_ATTACKS: readonly Attack[] = [
  {
    name: "T8 an older version",
    async run(arena) {
      const { key, store, written } = await scene(arena);
      const old = await caught(arena, written);
      await store.setValue(key, "2");
      always(arena, () => old);
      await expect(store.getValue(key)).rejects.toMatchObject(refused("rollback"));
      await expect(store.getEntry(key)).rejects.toMatchObject(refused("rollback"));
      await expect(store.deleteValue(key)).rejects.toMatchObject(refused("rollback"));
      always(arena, () => error(412, "version_conflict", current(1, written.body)));
      await expect(store.setValue(key, "3")).rejects.toMatchObject(refused("rollback"));
    },
  },
  {
    name: "T8 absence of what was seen",
    async run(arena) {
      const { key, store } = await scene(arena);
      always(arena, () => error(404, "record_not_found"));
      for (const call of [
        () => store.getValue(key),
        () => store.getEntry(key),
        () => store.createValue(key, "x"),
        () => store.deleteValue(key),
        () => store.destroyValue(key),
        () => store.listVersions(key),
      ]) {
        await expect(call()).rejects.toMatchObject(refused("rollback"));
      }
    },
  },
  {
    name: "T8 a conflict with nothing, after something was seen",
    async run(arena) {
      const { key, store } = await scene(arena);
      always(arena, () => error(412, "version_conflict", { current: null }));
      await expect(store.setValue(key, "2")).rejects.toMatchObject(refused("rollback"));
      await expect(store.setValue(key, "2", { ifVersion: 7 })).rejects.toMatchObject(refused("rollback"));
      await expect(store.setProtected(key, true)).rejects.toMatchObject(refused("rollback"));
    },
  },
  {
    name: "T8 an acknowledgement from below the mark",
    async run(arena) {
      const { key, store } = await scene(arena);
      await store.setValue(key, "2");
      always(arena, (sent) => acknowledged(versionSealed(sent)));
      await expect(store.setValue(key, "3", { ifVersion: 0 })).rejects.toMatchObject(refused("rollback"));
    },
  },
  {
    name: "T8 another version than the one that was asked for",
    async run(arena) {
      const { key, store, written } = await scene(arena);
      await store.setValue(key, "2");
      const latest = await caught(arena, written);
      always(arena, () => latest);
      await expect(store.getValue(key, { version: 1 })).rejects.toMatchObject(refused("protocol"));
    },
  },
  {
    name: "T9 a tombstone that nobody sealed",
    async run(arena) {
      const { key, fresh } = await scene(arena);
      for (const state of [RecordState.tombstone, RecordState.moved]) {
        const bytes = Uint8Array.from(made(state, 0, 347));
        always(arena, () => ({ status: 200, headers: new Headers({ etag: '"2"' }), bytes }));
        await expect(fresh.getEntry(key)).rejects.toMatchObject(refused("record_open"));
        always(arena, () => error(410, "record_expired", current(2, bytes.with(10, 1))));
        await expect(fresh.getEntry(key)).rejects.toMatchObject(refused("record_open"));
      }
    },
  },
  {
    name: "T9 an expiry that nobody sealed",
    async run(arena) {
      const { key, fresh } = await scene(arena);
      always(arena, () => error(410, "record_expired", current(1, made(RecordState.value, 1))));
      await expect(fresh.getValue(key)).rejects.toMatchObject(refused("record_open"));
    },
  },
  {
    name: "T9 an expiry that has not come",
    async run(arena) {
      const { key, store, fresh, written } = await scene(arena);
      always(arena, () => error(410, "record_expired", current(1, written.body)));
      await expect(fresh.getValue(key)).rejects.toMatchObject(refused("protocol"));
      await expect(fresh.getValue(key, { version: 1 })).rejects.toMatchObject(refused("protocol"));
      honest(arena);
      await store.setValue(key, "2", { expiresIn: "1h" });
      const [sent] = arena.adversary.exchanges;
      always(arena, () => error(410, "record_expired", current(2, sent?.body ?? new Uint8Array(0))));
      await expect(store.getValue(key)).rejects.toMatchObject(refused("protocol"));
    },
  },
  {
    name: "T8 an older version that has expired, when a later one is asked for",
    async run(arena) {
      const { store, fresh } = await scene(arena);
      const key = arena.freshKey();
      await store.setValue(key, "1", { expiresIn: 1 });
      const body = arena.adversary.exchanges.at(-1)?.body ?? new Uint8Array(0);
      await store.setValue(key, "2");
      await new Promise((resolve) => setTimeout(resolve, 5));
      always(arena, () => error(410, "record_expired", current(1, body)));
      await expect(store.getValue(key, { version: 2 })).rejects.toMatchObject(refused("rollback"));
      // Who has seen nothing is told, in effect, that there is no such version.
      expect(await fresh.getValue(key, { version: 2 })).toBeNull();
    },
  },
  {
    name: "T9 a value past its expiry",
    async run(arena) {
      const [, second] = arena.clients;
      const [fresh] = second.stores;
      const { key, record: bytes } = sealedBeside(arena.world, { expiresAt: BigInt(Date.now() - 1_000) });
      always(arena, () => ({ status: 200, headers: new Headers({ etag: '"1"' }), bytes }));
      expect(await fresh.getValue(key)).toBeNull();
      expect(await fresh.getEntry(key)).toMatchObject({ state: "expired", value: null });
    },
  },
];
