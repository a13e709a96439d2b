/**
 * Any byte of a stored row flipped, any column edited: it is detected and named, nothing but what depends on it is affected, and
 * no read ever gives other bytes; spec/envelope.md § Reading, § Verifying. key-flips.test.ts has the same of keys.
 */

import { randomBytes } from "node:crypto";

import { describe, expect, test } from "vitest";

import { DamagedRecordError } from "../../src/envelope/errors.js";
import type { ReadRef, StoredRecord } from "../../src/storage/record-store.js";
import { Editor, damageOf, flips } from "./flips.js";
import { openWorld, refTo, writeOf } from "./world.js";

/**
 * What a read comes to. `absent`: the record was never written; `dropped`: this version is not kept. The server can tell neither
 * from the truth where whole rows are missing or were moved: that is for clients, to whom it is a RollbackError.
 */
type Outcome = "same" | "damaged" | "absent" | "dropped";

const LONG = 5_000;
const MAX_INTEGER = 2n ** 63n - 1n;

/** A protected record of two versions, the second of them long, and others beside it in its store and in another one. */
async function openFlips() {
  const world = await openWorld();
  await world.addStore("default", "other");
  const hit = refTo(randomBytes(32));
  const bodies = [randomBytes(120), randomBytes(LONG)] as const;
  for (const [index, body] of bodies.entries()) await world.records.commit([writeOf(hit, index + 1, body)]);
  const state = { version: 2, protected: true, active: true };
  await world.records.commit([{ ref: hit, expect: { ...state, protected: false }, next: state, keepVersions: 10 }]);
  const others = Array.from({ length: 4 }, (_, index) => ({
    ref: refTo(randomBytes(32), "default", index < 2 ? "user-tokens" : "other"),
    body: randomBytes(100),
  }));
  await world.records.commit(others.map(({ ref, body }) => writeOf(ref, 1, body)));
  const id = (await world.keys.open("default", "user-tokens"))?.recordId(hit.id) ?? expect.unreachable();

  const outcome = (found: StoredRecord | null | undefined, version: 1 | 2): Outcome => {
    if (!found) return "absent";
    expect(found.current).toStrictEqual(state);
    if (found.kept === null) return "dropped";
    expect(found.kept.version).toBe(version);
    // The time is the server's claim; what was sealed is not.
    expect(Buffer.compare(found.kept.body, bodies[version - 1] ?? expect.unreachable())).toBe(0);
    return "same";
  };

  /** The current version and the one before, read in one batch with the other records, which must all be there. */
  const read = async (): Promise<[Outcome, Outcome]> => {
    const [a, b, c, d] = others.map(({ ref }) => ref) as [ReadRef, ReadRef, ReadRef, ReadRef];
    const refs = [a, hit, c, { ...hit, version: 1 }, b, d];
    const error: unknown = await world.records.read(refs).catch((reason: unknown) => reason);
    const damaged = error instanceof DamagedRecordError ? error.positions : [];
    expect([1, 3]).toEqual(expect.arrayContaining([...damaged]));
    const sound = [...refs.keys()].filter((position) => !damaged.includes(position));
    const records = await world.records.read(sound.map((position) => refs[position] ?? a));
    const at = (position: number) => records[sound.indexOf(position)];
    for (const [index, position] of [0, 4, 2, 5].entries()) {
      expect(Buffer.compare(at(position)?.kept?.body ?? randomBytes(1), others[index]?.body ?? randomBytes(1))).toBe(0);
    }
    return [damaged.includes(1) ? "damaged" : outcome(at(1), 2), damaged.includes(3) ? "damaged" : outcome(at(3), 1)];
  };

  const editor = new Editor(world);
  const hex = id.toString("hex");
  const where = `record_id = x'${hex}' and project = 'default' and store = 'user-tokens'`;
  return { world, editor, hit, id, where, read, name: `Record ${hex} of store user-tokens in project default` };
}

const BOTH = ["damaged", "damaged"] as const;
const NEITHER = ["same", "same"] as const;
const GONE = ["absent", "absent"] as const;

describe("a row of records", () => {
  test.each<[string, unknown[], readonly [Outcome, Outcome]]>([
    ["version", [1, 3, 0, -1, -(2 ** 40), 2 ** 32 + 2, Number.MAX_SAFE_INTEGER, MAX_INTEGER, -MAX_INTEGER], BOTH],
    ["protected", [0], BOTH],
    ["active", [0], BOTH],
    ["tag", [null, Buffer.alloc(0), Buffer.alloc(31), Buffer.alloc(32), Buffer.alloc(33)], BOTH],
    // Every number but 0 is the same flag.
    ["protected", [2, -1, MAX_INTEGER], NEITHER],
    ["active", [2, -1, MAX_INTEGER], NEITHER],
    // No tag covers it: who edits it can as well delete the row of the version.
    ["kept_from", [0, -1], NEITHER],
    ["kept_from", [2], ["same", "dropped"]],
    ["kept_from", [3, MAX_INTEGER], ["damaged", "dropped"]],
    ["project", ["defaulu", ""], GONE],
    ["store", ["user-tokenr", "other", ""], GONE],
  ])("with another %s (%#)", async (column, values, expected) => {
    const { world, editor, where, read, name } = await openFlips();
    for (const value of values) {
      await editor.with("records", where, column, value, async () => {
        expect(await read(), String(value)).toEqual(expected);
        const damage = await damageOf(world);
        for (const sentence of expected === GONE ? [] : damage) expect(sentence).toContain(name);
        if (expected !== GONE) expect(damage.length > 0, String(value)).toBe(expected.includes("damaged"));
      });
    }
    expect(await read()).toEqual(NEITHER);
    expect(await damageOf(world)).toEqual([]);
  });

  test("with any byte of its tag flipped", async () => {
    const { world, editor, where, read, name } = await openFlips();
    const tag = world.raw.prepare<[], Buffer>(`select tag from records where ${where}`).pluck().get();
    for (const [place, changed] of flips(tag ?? expect.unreachable())) {
      await editor.with("records", where, "tag", changed, async () => {
        expect(await read(), `byte ${place}`).toEqual(BOTH);
        expect(await damageOf(world)).toEqual([`${name}: its state does not verify.`]);
      });
    }
  });

  test("with any byte of its id flipped: it is another record's then, whose state does not verify", async () => {
    const { world, editor, id, where, read } = await openFlips();
    for (const [place, changed] of flips(id)) {
      await editor.with("records", where, "record_id", changed, async () => {
        expect(await read(), `byte ${place}`).toEqual(GONE);
        expect((await damageOf(world))[0]).toContain(`Record ${changed.toString("hex")} of store user-tokens`);
      });
    }
  });
});

describe("a row of record_versions", () => {
  test.each<[1 | 2, string, unknown[], readonly [Outcome, Outcome]]>([
    [2, "version", [3, 0, -2, 2 ** 32 + 2, MAX_INTEGER], ["damaged", "same"]],
    [1, "version", [3, 0, -1, 2 ** 32 + 1, MAX_INTEGER], ["same", "dropped"]],
    [2, "project", ["defaulu", ""], ["damaged", "same"]],
    [1, "project", ["defaulu", ""], ["same", "dropped"]],
    [2, "store", ["user-tokenr", "other"], ["damaged", "same"]],
    [1, "store", ["user-tokenr", "other"], ["same", "dropped"]],
    // No read trusts these three: the body names its key, and the seal says when it expires.
    [2, "key_version", [null, 0, -1, 2, MAX_INTEGER], NEITHER],
    [2, "created_at", [0, -1, MAX_INTEGER], NEITHER],
    [2, "expires_at", [1, -1, MAX_INTEGER], NEITHER],
  ])("of version %i with another %s (%#)", async (version, column, values, expected) => {
    const { world, editor, where, read, name } = await openFlips();
    for (const value of values) {
      await editor.with("record_versions", `${where} and version = ${version}`, column, value, async () => {
        expect(await read(), String(value)).toEqual(expected);
        const isDamaged = expected.includes("damaged");
        expect(await damageOf(world)).toEqual(isDamaged ? [`${name}, version 2: it is missing.`] : []);
      });
    }
    expect(await read()).toEqual(NEITHER);
  });

  test.each([1, 2] as const)("of version %i that was renumbered is not read as what it is not", async (version) => {
    const { world, editor, hit, where } = await openFlips();
    for (const other of [3, 2 ** 32 + version, Number.MAX_SAFE_INTEGER]) {
      await editor.with("record_versions", `${where} and version = ${version}`, "version", other, async () => {
        await expect(world.records.read([{ ...hit, version: other }])).rejects.toThrow(DamagedRecordError);
      });
      expect(await world.records.read([{ ...hit, version: other }])).toMatchObject([{ kept: null }]);
    }
  });

  test.each([1, 2] as const)("of version %i with any byte of its id flipped", async (version) => {
    const { editor, id, where, read } = await openFlips();
    for (const [place, changed] of flips(id)) {
      await editor.with("record_versions", `${where} and version = ${version}`, "record_id", changed, async () => {
        expect(await read(), `byte ${place}`).toEqual(version === 2 ? ["damaged", "same"] : ["same", "dropped"]);
      });
    }
  });

  test.each([1, 2] as const)("of version %i with any byte of its body flipped, or cut", async (version) => {
    const { world, editor, where, read, name } = await openFlips();
    const row = `${where} and version = ${version}`;
    const body = world.raw.prepare<[], Buffer>(`select body from record_versions where ${row}`).pluck().get();
    const { length } = body ?? expect.unreachable();
    // All of the short one; of the long one its head, its tail, and one byte in 37 between them.
    const places = Array.from({ length }, (_, place) => place).filter(
      (place) => version === 1 || place < 60 || place >= length - 20 || place % 37 === 0,
    );
    const cuts = [0, 1, 48, 49, length - 1].map((end) => [end, body?.subarray(0, end)] as const);
    for (const [place, changed] of [...flips(body ?? expect.unreachable(), places), ...cuts]) {
      await editor.with("record_versions", row, "body", changed, async () => {
        const expected = version === 2 ? ["damaged", "same"] : ["same", "damaged"];
        expect(await read(), `byte ${place}`).toEqual(expected);
        if (place % 8 !== 0) return;
        expect(await damageOf(world)).toEqual([`${name}, version ${version}: it does not open.`]);
      });
    }
    expect(await read()).toEqual(NEITHER);
  });
});
