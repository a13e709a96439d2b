/**
 * Any byte of a wrapped key flipped, any column beside it edited: only its store is affected, it closes and gives nothing wrong, and
 * the key is named; spec/envelope.md § Wrapping, § Verifying. providers/keyring-flips.test.ts has the same of the keyring.
 */

import { randomBytes } from "node:crypto";

import { describe, expect, test, vi } from "vitest";

import { DamagedRecordError } from "../../src/envelope/errors.js";
import { KeyProviderError } from "../../src/envelope/key-provider.js";
import { KeyProviders } from "../../src/envelope/key-providers.js";
import { KeyKeeper } from "../../src/keys/key-keeper.js";
import { keyStatus } from "../../src/keys/status.js";
import { StorageError } from "../../src/storage/record-store.js";
import { Editor, damageOf, flips } from "./flips.js";
import { openWorld, refTo, writeOf } from "./world.js";

const MAX_INTEGER = 2n ** 63n - 1n;
const SILENT = { debug() {}, info() {}, warn() {} };

/** `closed`: no read and no write. `earlier`: what is under the data key is damaged, and nothing else. */
type Outcome = "open" | "closed" | "earlier";

/** A store with a retired and an active data key and a record under each, and another store. All wraps are outdated. */
async function openKeys() {
  const world = await openWorld();
  await world.addStore("default", "other");
  const written = [
    { ref: refTo(randomBytes(32)), body: randomBytes(100) },
    { ref: refTo(randomBytes(32)), body: randomBytes(100) },
    { ref: refTo(randomBytes(32), "default", "other"), body: randomBytes(100) },
  ] as const;
  await world.records.commit([writeOf(written[0].ref, 1, written[0].body)]);
  await world.rotateDataKey(2);
  await world.records.commit([writeOf(written[1].ref, 1, written[1].body)]);
  await world.records.commit([writeOf(written[2].ref, 1, written[2].body)]);
  await world.keyring.masterKeys.rotate();
  // As it is in a server: after a failure of the provider itself all calls would be refused for a second.
  const providers = new KeyProviders([world.keyring], world.directory);

  /** What a server that starts now makes of a record, and of a write to its store. */
  const attempt = async (index: 0 | 1 | 2, records = world.serve({ providers }).records) => {
    const { ref, body } = written[index];
    const refusal = (error: unknown) => {
      if (error instanceof DamagedRecordError) return "damaged";
      const isKnown = error instanceof StorageError || (error instanceof KeyProviderError && error.fault === "refused");
      if (!isKnown) throw error;
      return "refused";
    };
    const read = await records.read([ref]).then(([found]) => {
      expect(Buffer.compare(found?.kept?.body ?? randomBytes(1), body)).toBe(0);
      return "same";
    }, refusal);
    const fresh = refTo(randomBytes(32), ref.project, ref.store);
    const write = await records.commit([writeOf(fresh, 1, body)]).then(() => "written", refusal);
    return `${read}, ${write}`;
  };

  const outcome = async (): Promise<Outcome> => {
    const [earlier, newer, other] = [await attempt(0), await attempt(1), await attempt(2)];
    expect(other).toBe("same, written");
    if (newer === "same, written")
      return earlier === newer ? "open" : (expect(earlier).toBe("damaged, written"), "earlier");
    expect([earlier, newer]).toEqual(["refused, refused", "refused, refused"]);
    return "closed";
  };
  return { world, providers, editor: new Editor(world), attempt, outcome };
}

const whereKey = (purpose: string, version: number) =>
  `project = 'default' and store = 'user-tokens' and purpose = '${purpose}' and version = ${version}`;

const nameOf = (purpose: string, version: number | bigint, store = "user-tokens") =>
  `The ${purpose} key ${version} of store ${store} in project default does not open: `;

describe.each([
  ["index", 1],
  ["data", 1],
  ["data", 2],
] as const)("the %s key %i", (purpose, version) => {
  const where = whereKey(purpose, version);
  /** A data key that is only read with: nothing but what is under it depends on it. */
  const isSpare = purpose === "data" && version === 1;
  const expected: Outcome = isSpare ? "earlier" : "closed";
  const consequence = isSpare
    ? /^Record [0-9a-f]{64} of store user-tokens .* version 1: it does not open/
    : /^Store default\/user-tokens has no usable keys/;

  test("with any byte of its wrap flipped, or cut", async () => {
    const { world, editor, outcome } = await openKeys();
    const wrapped = world.raw.prepare<[], Buffer>(`select wrapped from store_keys where ${where}`).pluck().get();
    const bytes = wrapped ?? expect.unreachable();
    const cuts = [0, 4, 64].map((end) => [end, bytes.subarray(0, end)] as const);
    for (const [place, changed] of [...flips(bytes), ...cuts, [65, Buffer.concat([bytes, bytes])] as const]) {
      await editor.with("store_keys", where, "wrapped", changed, async () => {
        expect(await outcome(), `byte ${place}`).toBe(expected);
        const [named, closed, ...more] = await damageOf(world);
        expect(named).toContain(nameOf(purpose, version));
        expect(closed).toMatch(consequence);
        expect(more).toEqual([]);
      });
    }
    expect(await outcome()).toBe("open");
    expect(await damageOf(world)).toEqual([]);
  });

  test.each<[string, unknown[]]>([
    ["version", [9, 0, -1, 2 ** 31, 2 ** 32, 2 ** 32 + version, Number.MAX_SAFE_INTEGER, MAX_INTEGER, -MAX_INTEGER]],
    ["purpose", ["datb", "inde", "", "DATA", "index\0"]],
    ["master_version", [2, 3, 0, -1, 2 ** 32, 2 ** 32 + 1, MAX_INTEGER]],
  ])("with another %s", async (column, values) => {
    const { world, editor, outcome } = await openKeys();
    for (const value of values) {
      await editor.with("store_keys", where, column, value, async () => {
        expect(await outcome(), String(value)).toBe(expected);
        const [named, closed, ...more] = await damageOf(world);
        expect(named).toMatch(/^The .* of store user-tokens in project default does not open: /);
        expect(closed).toMatch(consequence);
        expect(more).toEqual([]);
      });
    }
  });

  test("with another provider", async () => {
    const { world, editor, outcome } = await openKeys();
    const id = Buffer.from(world.keyring.id);
    for (const provider of ["", "local:", ...[...flips(id)].map(([, changed]) => changed.toString("latin1"))]) {
      await editor.with("store_keys", where, "provider", provider, async () => {
        expect(await outcome(), provider).toBe(expected);
        const [named, closed, ...more] = await damageOf(world);
        expect(named).toContain(
          `${nameOf(purpose, version)}it names the key provider ${provider}, which was not given`,
        );
        expect(closed).toMatch(consequence);
        expect(more).toEqual([]);
      });
    }
  });

  test("in another store or project: its own lacks it", async () => {
    const { editor, outcome, world } = await openKeys();
    for (const [column, value] of [
      ["store", "user-tokenr"],
      ["project", "defaulu"],
    ] as const) {
      await editor.with("store_keys", where, column, value, async () => {
        expect(await outcome(), value).toBe(expected);
        expect((await damageOf(world)).length).toBe(2);
      });
    }
  });

  test("with another time", async () => {
    const { editor, outcome } = await openKeys();
    for (const value of [0, -1, MAX_INTEGER]) {
      await editor.with("store_keys", where, "created_at", value, async () => expect(await outcome()).toBe("open"));
    }
  });
});

describe("a state that is neither", () => {
  const states = ["", "Active", "active ", "activd", "retirec", "1"];

  test("does not count as active, for who loads the keys and for who has them", async () => {
    const { world, providers, editor, attempt, outcome } = await openKeys();
    const { records } = world.serve({ providers });
    expect(await attempt(1, records)).toBe("same, written");
    for (const state of states) {
      await editor.with("store_keys", whereKey("data", 2), "state", state, async () => {
        expect(await outcome(), state).toBe("closed");
        // Reads go on with what is cached. A write is refused by the database, and then by the keys that it loads anew.
        const count = world.raw.prepare("select count(*) from record_versions").pluck();
        const before = count.get();
        expect(await attempt(1, records)).toBe("same, refused");
        expect(count.get()).toBe(before);
      });
      expect(await attempt(1, records)).toBe("same, written");
    }
  });

  test("opens what exists, where nothing is to be written under the key", async () => {
    const { world, editor, outcome } = await openKeys();
    for (const state of states) {
      for (const where of [whereKey("data", 1), whereKey("index", 1)]) {
        await editor.with("store_keys", where, "state", state, async () => expect(await outcome(), state).toBe("open"));
      }
    }
    expect(await damageOf(world)).toEqual([]);
  });
});

test.each<[string, string, unknown]>([
  ["a flipped byte", "wrapped", Buffer.alloc(65, 1)],
  ["a provider that nobody knows", "provider", "local:0123"],
  ["a version that no key has", "version", -1],
  ["a version beyond all bytes", "version", 2 ** 40],
  ["a purpose that no key has", "purpose", "datb"],
  ["a master-key version that was never", "master_version", 77],
])(
  "a rotation of the master key leaves a key with %s alone, reports it, and does all others",
  async (_, column, value) => {
    const { world, providers, editor, attempt } = await openKeys();
    await editor.with("store_keys", whereKey("data", 2), column, value, async () => {
      const before = editor.rows("store_keys");
      const lines: [object, string][] = [];
      const keeper = new KeyKeeper({
        keys: world.database.keys,
        providers,
        storeKeys: world.keys,
        maintenance: world.database.maintenance,
        logger: { ...SILENT, error: (fields, message) => lines.push([fields, message]) },
        now: () => 5,
        periods: { masterKey: null, dataKey: null },
        interval: 3_600_000,
      });
      keeper.wake();
      await vi.waitFor(() => expect(lines).not.toEqual([]), 10_000);
      await keeper.stop();
      const failed = { error: expect.objectContaining({ name: "WrapsRefusedError" }) as unknown };
      expect(lines).toEqual([[failed, "some work on keys has failed, and will be tried again"]]);
      const after = editor.rows("store_keys");
      const untouched = after.filter((row) => row.master_version !== 2);
      expect(untouched).toHaveLength(1);
      expect(before).toContainEqual(untouched[0]);
      const status = await keyStatus({ keys: world.database.keys, providers, keeper, masterKeyPeriod: null });
      expect(status).toMatchObject({
        outdatedWraps: 1,
        failure: expect.stringContaining("1 wrapped store keys") as unknown,
      });
      expect(await attempt(2)).toBe("same, written");
    });
  },
);
