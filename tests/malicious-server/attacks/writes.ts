/** Attacks on writes: forks, jumps of the version, acknowledgements that are none; spec/record.md § Writing, § Marks. */

import { MAX_VERSION, toBase64url } from "@tacenda/protocol";
import { expect } from "vitest";

import type { Attack } from "../arena.js";
import { acknowledged, broken, current, error, made, versionSealed } from "../mutators.js";
import { always, honest, refused, requests, scene } from "./scene.js";

export const WRITE_ATTACKS: readonly Attack[] = [
  {
    name: "T25 another record of a version that was seen",
    async run(arena) {
      const { key, store, fresh, written } = await scene(arena);
      always(arena, (sent) => acknowledged(versionSealed(sent)));
      await store.setValue(key, "2");
      honest(arena);
      await fresh.setValue(key, "the other 2", { ifVersion: 1 });
      const [other] = arena.adversary.exchanges;
      await expect(store.getValue(key)).rejects.toMatchObject(refused("rollback"));
      always(arena, () => error(412, "version_conflict", current(2, other?.body ?? written.body)));
      await expect(store.setValue(key, "3", { ifVersion: 7 })).rejects.toMatchObject(refused("rollback"));
    },
  },
  {
    name: "T25 an acknowledgement of another version",
    async run(arena) {
      const { key, store } = await scene(arena);
      for (const version of [1, 3, MAX_VERSION]) {
        always(arena, () => acknowledged(version));
        await expect(store.setValue(key, "2")).rejects.toMatchObject(refused("protocol"));
      }
    },
  },
  {
    name: "T28 a jump of the version",
    async run(arena) {
      const { key, fresh, written } = await scene(arena);
      for (const head of [written.body, made(0, 0)]) {
        always(arena, () => error(412, "version_conflict", current(MAX_VERSION - 1, head)));
        await expect(fresh.setValue(key, "2")).rejects.toMatchObject(refused("record_open"));
        expect(requests(arena, "PUT")).toBe(1);
      }
    },
  },
  {
    name: "T28 a conflict of the wrong types",
    async run(arena) {
      const { key, fresh } = await scene(arena);
      const head = toBase64url(made(0, 0));
      for (const version of ["1", 1.5, -1, 1e300, null, [1], { valueOf: 1 }]) {
        always(arena, () => error(412, "version_conflict", { current: { version, head } }));
        await expect(fresh.setValue(key, "2")).rejects.toMatchObject(refused("protocol"));
      }
      always(arena, () => error(412, "version_conflict", { current: { version: 1, head: `${head.slice(0, -1)}!` } }));
      await expect(fresh.setValue(key, "2")).rejects.toMatchObject(refused("protocol"));
    },
  },
  {
    name: "a lost write, sealed again over another writer's value",
    async run(arena) {
      const { key, store, fresh } = await scene(arena);
      always(arena, async (sent) => {
        // Loses the write, and sees to it that somebody else's comes first.
        honest(arena);
        await fresh.setValue(key, "of another writer", { ifVersion: 1 });
        throw broken(sent);
      });
      await expect(store.setValue(key, "2")).rejects.toMatchObject(refused("outcome_unknown"));
      honest(arena);
      expect(await fresh.getEntry(key)).toMatchObject({ value: "of another writer", version: 2 });
    },
  },
  {
    name: "an answer that a later write overtakes is no rollback",
    async run(arena) {
      const { key, store } = await scene(arena);
      let release: () => void = () => undefined;
      const released = new Promise<void>((resolve) => (release = resolve));
      always(arena, async (sent, adversary) => {
        const answer = await adversary.pass(sent);
        if (sent.method === "GET") await released;
        return answer;
      });
      const reading = store.getValue(key);
      while (requests(arena, "GET") === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      await new Promise((resolve) => setTimeout(resolve, 20));
      await store.setValue(key, "2");
      release();
      expect(await reading).toBe("1");
      honest(arena);
      expect(await store.getValue(key)).toBe("2");
    },
  },
];
