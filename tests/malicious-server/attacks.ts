/**
 * One attack for each defence of the client, in the order of threats.md. Each throws when the attack succeeds, so that it can
 * be run against an SDK with a bug planted in it as well.
 */

import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

import { HEAD_BYTES, MAX_RECORD_BYTES, MAX_VERSION, RecordState, toBase64url } from "@tacenda/protocol";
import { expect } from "vitest";

import type { Mutator, Sent, Snapshot } from "./adversary.js";
import type { Arena } from "./arena.js";
import {
  REGION_NAMES,
  acknowledged,
  altered,
  broken,
  current,
  endless,
  error,
  flipped,
  made,
  stalled,
  versionSealed,
} from "./mutators.js";
import { sealedBeside } from "./corruptions.js";
import { within } from "./within.js";

export interface Attack {
  name: string;
  readonly run: (arena: Arena) => Promise<void> | void;
}

/** Every request of a call is answered so. */
function always(arena: Arena, mutator: Mutator): void {
  arena.adversary.begin(() => mutator);
}

function honest(arena: Arena): void {
  arena.adversary.begin(undefined);
}

/** A key with a value, its first client, who has written it, and a second one, who has not seen it. */
async function scene(arena: Arena) {
  honest(arena);
  const [{ stores }, second] = arena.clients;
  const [store, other] = stores;
  const key = arena.freshKey();
  await store.setValue(key, "1");
  const [written] = arena.adversary.exchanges;
  if (written === undefined) throw new Error("The write was not seen.");
  return { key, store, other, fresh: second.stores[0], written };
}

/** What the real server answers to a read, caught by the adversary. */
async function caught(arena: Arena, sent: Sent): Promise<Snapshot> {
  const headers = new Headers({ authorization: sent.headers.get("authorization") ?? "" });
  return await arena.adversary.pass({ method: "GET", url: sent.url, headers, body: new Uint8Array(0) });
}

const refused = (code: string) => ({ code });
const requests = (arena: Arena, method: string) =>
  arena.adversary.exchanges.filter((exchange) => exchange.method === method).length;

export const ATTACKS: readonly Attack[] = [
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
  {
    name: "T21 a redirect",
    async run(arena) {
      let requestsMeant = 0;
      let requestsLured = 0;
      const lure = createServer((_, response) => {
        requestsLured++;
        const { status, headers, bytes } = error(404, "record_not_found");
        response.writeHead(status, Object.fromEntries(headers)).end(bytes);
      });
      await once(lure.listen(0, "127.0.0.1"), "listening");
      const lureUrl = urlOf(lure);
      const server = createServer((request, response) => {
        requestsMeant++;
        response.writeHead(307, { location: lureUrl + (request.url ?? "") }).end();
      });
      await once(server.listen(0, "127.0.0.1"), "listening");
      try {
        const { secret } = arena.world;
        const client = new arena.sdk.Tacenda({ url: urlOf(server), token: "t", secret, timeout: 2_000 });
        const outcome = await client
          .getStore("s")
          .getValue("k")
          .catch((reason: unknown) => reason);
        expect(outcome).toMatchObject(refused("protocol"));
        expect(requestsMeant).toBeGreaterThan(0);
        expect(requestsLured).toBe(0);
      } finally {
        lure.close();
        server.close();
      }
    },
  },
  {
    name: "T21 a body without an end",
    async run(arena) {
      const { key, fresh } = await scene(arena);
      const count = { pulled: 0 };
      always(arena, () => endless(33_554_432, count));
      await expect(fresh.getValue(key)).rejects.toMatchObject(refused("protocol"));
      expect(count.pulled).toBeLessThan(2 * MAX_RECORD_BYTES);
    },
  },
  {
    name: "T21 a body that never comes",
    async run(arena) {
      const { key, fresh } = await scene(arena);
      always(arena, stalled);
      const read = within(2_000, fresh.getValue(key, { timeout: 30 }));
      await expect(read).rejects.toMatchObject(refused("request_timeout"));
    },
  },
  {
    name: "T21 no answer",
    async run(arena) {
      const { key, fresh } = await scene(arena);
      always(arena, () => new Promise<never>(() => undefined));
      const read = within(2_000, fresh.getValue(key, { timeout: 30 }));
      await expect(read).rejects.toMatchObject(refused("request_timeout"));
    },
  },
  {
    name: "T21 the token in the network's error, and in the server's",
    async run(arena) {
      const { key, store } = await scene(arena);
      const { token } = arena.world;
      const hostile = (code: string, status: number): Snapshot =>
        altered(error(status, code), {
          bytes: Buffer.from(JSON.stringify({ error: { code, message: token, requestId: token, current: token } })),
        });
      for (const answer of [
        hostile("permission_denied", 403),
        hostile("internal", 500),
        hostile("version_conflict", 412),
      ]) {
        always(arena, () => answer);
        await expectSilent(arena, store.getValue(key));
        await expectSilent(arena, store.setValue(key, "2"));
      }
      always(arena, (sent) => {
        throw broken(sent);
      });
      await expectSilent(arena, store.getValue(key));
    },
  },
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

/** The call fails with a typed error, in which the token is nowhere. */
async function expectSilent(arena: Arena, call: Promise<unknown>): Promise<void> {
  const outcome = await call.catch((reason: unknown) => reason);
  expect(arena.sdk.TacendaError.is(outcome)).toBe(true);
  const failure = outcome as Error;
  const told = `${failure.message} ${failure.stack ?? ""} ${JSON.stringify(failure)} ${String(failure.cause)}`;
  expect(told.includes(arena.world.token)).toBe(false);
}

function urlOf(server: ReturnType<typeof createServer>): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
