/**
 * Bits of stored rows flipped, one after the other, under a running server: what depends on the row gives an error that says so, or
 * what it was, and never anything else; and nothing else is affected. spec/envelope.md § Reading.
 */

import { setTimeout as sleep } from "node:timers/promises";

import { TacendaError, generateSecret, type Store } from "@tacenda/sdk";

import { spawnServer } from "../server-process.ts";
import type { Place } from "./databases.ts";
import { ROOT_TOKEN, adminOf, storeOf } from "./key-world.ts";
import { KEYS, openRawRows, type RawRows, type Row, type Table, type Value } from "./raw-rows.ts";

const STORE = "hit";
const OTHER = "other";
const VICTIM = "victim";
const VALUES = ["the first value", "the second value ".repeat(40)] as const;
/** Keys beside, in the same store and in another one, which nothing may affect. */
const BESIDE = ["one", "two", "three"];
/** Milliseconds for which a server says again that a store's keys were refused. */
const REFUSAL = 1_100;

/** One change of one stored value. */
export interface Flip {
  name: string;
  table: Table;
  row: Row;
  next: Row;
  /** Whether the current version must be refused. Else it may be, or be what it was. */
  mustShow: boolean;
  /** Whether an earlier version may be said not to be kept: its row is another one's then. */
  mayDrop: boolean;
}

export interface FlipWorld {
  /** What can happen to the rows of the one record, by row and column. */
  flips: Flip[][];
  /** What can happen to its store's keys, which closes the store. */
  keyFlips: Flip[][];
  /** Makes the change, and undoes it. Gives what went wrong. */
  attempt: (flip: Flip) => Promise<string[]>;
}

export async function openFlipWorld(bin: string, place: Place): Promise<FlipWorld> {
  // Keys are loaded anew for each call: what becomes of them shows at once.
  const flags = ["--key-cache-ttl", "0s", "--key-cache-grace", "0s"];
  const { url } = await spawnServer({ bin, ...place, rootToken: ROOT_TOKEN, flags });
  const secret = generateSecret();
  for (const id of [STORE, OTHER]) await adminOf(url).stores.create(id);
  const [hit, other] = [storeOf(url, secret, STORE), storeOf(url, secret, OTHER)];
  for (const value of VALUES) await hit.setValue(VICTIM, value);
  for (const key of BESIDE) {
    await hit.setValue(key, `${key} beside`);
    await other.setValue(key, `${key} elsewhere`);
  }
  const raw = await openRawRows(place);
  const [record] = (await raw.rows("records", STORE)).filter(({ version }) => version === 2n);
  const versions = await raw.rows("record_versions", STORE);
  const [earlier, current] = versions.filter((row) => sameBytes(row.record_id, record?.record_id));
  const beside = versions.find((row) => !sameBytes(row.record_id, record?.record_id));
  const [elsewhere] = await raw.rows("record_versions", OTHER);
  if (!record || !earlier || !current || !beside || !elsewhere) throw new Error("A row is missing.");

  const swaps = [earlier, beside, elsewhere].map((from): Flip => ({
    name: `the body of another row`,
    table: "record_versions",
    row: current,
    next: { ...current, body: from.body ?? null, key_version: from.key_version ?? null },
    mustShow: true,
    mayDrop: false,
  }));
  const keys = await raw.rows("store_keys", STORE);
  const trial = new Trial(raw, hit, other);
  return {
    flips: [
      ...flipsOf("records", record, DECISIVE.records),
      ...flipsOf("record_versions", current, DECISIVE.current),
      ...flipsOf("record_versions", earlier, []),
      swaps,
    ],
    keyFlips: keys.flatMap((row) => flipsOf("store_keys", row, ["project", "store", "purpose", "version", "wrapped"])),
    attempt: (flip) => trial.run(flip),
  };
}

/** Columns of which no bit can change without the current version being refused. */
const DECISIVE = {
  records: ["project", "store", "record_id", "version", "protected", "tag"],
  current: ["project", "store", "record_id", "version", "body"],
} as const;

/** All of a row, by its columns. */
function flipsOf(table: Table, row: Row, decisive: readonly string[]): Flip[][] {
  return Object.entries(row).map(([column, value]) =>
    changesOf(value).map((changed, index) => ({
      name: `bit ${index} of ${column} of ${table}`,
      table,
      row,
      next: { ...row, [column]: changed },
      mustShow: decisive.includes(column),
      mayDrop: KEYS[table].includes(column) || column === "kept_from",
    })),
  );
}

/** The value with each of its bits flipped; of text those that leave it text. */
function changesOf(value: Value): Value[] {
  if (value === null) return [];
  if (typeof value === "bigint") {
    return Array.from({ length: 64 }, (_, bit) => BigInt.asIntN(64, value ^ (1n << BigInt(bit))));
  }
  const bytes = typeof value === "string" ? Buffer.from(value) : value;
  const changes = Array.from({ length: bytes.length * 8 }, (_, bit) => {
    const changed = Buffer.from(bytes);
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    return changed;
  });
  if (typeof value !== "string") return changes;
  return changes.filter((changed) => changed.every((byte) => byte > 0 && byte < 128)).map(String);
}

function sameBytes(a: Value | undefined, b: Value | undefined): boolean {
  return Buffer.isBuffer(a) && Buffer.isBuffer(b) && a.equals(b);
}

type Reading = { value: string | null } | { error: unknown };

class Trial {
  readonly #raw: RawRows;
  readonly #hit: Store;
  readonly #other: Store;

  constructor(raw: RawRows, hit: Store, other: Store) {
    this.#raw = raw;
    this.#hit = hit;
    this.#other = other;
  }

  async run(flip: Flip): Promise<string[]> {
    const { table, row, next } = flip;
    await this.#raw.replace(table, row, next);
    const faults = table === "store_keys" ? await this.#lookAtStore(flip) : await this.#lookAtRecord(flip);
    await this.#raw.replace(table, next, row);
    if (table === "store_keys") await sleep(REFUSAL);
    const after = judge(
      "after it was undone, the current version",
      await reading(this.#hit.getValue(VICTIM)),
      VALUES[1],
    );
    return [...faults, after].filter((fault) => fault !== null).map((fault) => `${flip.name}: ${fault}`);
  }

  async #lookAtRecord(flip: Flip): Promise<(string | null)[]> {
    const hit = this.#hit;
    const [current, earlier, together, elsewhere] = await Promise.all([
      reading(hit.getValue(VICTIM)),
      reading(hit.getValue(VICTIM, { version: 1 })),
      hit.getValues([BESIDE[0] ?? "", VICTIM, ...BESIDE.slice(1)], { onError: "collect" }),
      this.#other.getValues(BESIDE),
    ]);
    const victim = together.get(VICTIM) ?? null;
    return [
      judge("the current version", current, VALUES[1], { refusal: flip.mustShow ? "must" : "may" }),
      judge("the earlier version", earlier, VALUES[0], { refusal: "may", mayDrop: flip.mayDrop }),
      judge("in a batch", asReading(victim), VALUES[1], { refusal: flip.mustShow ? "must" : "may" }),
      ...BESIDE.map((key) => (together.get(key) === `${key} beside` ? null : `${key} is affected`)),
      ...BESIDE.map((key) =>
        elsewhere.get(key) === `${key} elsewhere` ? null : `${key} of another store is affected`,
      ),
    ];
  }

  async #lookAtStore(flip: Flip): Promise<(string | null)[]> {
    const [current, write, elsewhere] = await Promise.all([
      reading(this.#hit.getValue(VICTIM)),
      reading(this.#hit.setValue("later", "x").then(() => null)),
      this.#other.getValues(BESIDE),
    ]);
    const wasWritten = flip.mustShow && !("error" in write);
    return [
      judge("the current version", current, VALUES[1], { refusal: flip.mustShow ? "must" : "may" }),
      wasWritten ? "a write under damaged keys succeeded" : null,
      ...BESIDE.map((key) =>
        elsewhere.get(key) === `${key} elsewhere` ? null : `${key} of another store is affected`,
      ),
    ];
  }
}

async function reading(call: Promise<string | null>): Promise<Reading> {
  return await call.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
}

function asReading(result: string | TacendaError | null): Reading {
  return TacendaError.is(result) ? { error: result } : { value: result };
}

/** What tells a caller that stored data is damaged or gone, or its keys are. */
function isTold(error: unknown): boolean {
  if (TacendaError.is(error, "server_fault")) return /record is damaged|server failed/.test(error.message);
  return TacendaError.is(error, "rollback") || TacendaError.is(error, "key_provider_unavailable");
}

interface Expected {
  /** Whether there may be, or must be, an error that tells of damage. */
  refusal?: "may" | "must";
  mayDrop?: boolean;
}

function judge(what: string, read: Reading, value: string, expected: Expected = {}): string | null {
  const { refusal, mayDrop = false } = expected;
  if ("error" in read) return refusal !== undefined && isTold(read.error) ? null : `${what}: ${String(read.error)}`;
  if (read.value === null && mayDrop) return null;
  if (read.value !== value) return `${what} reads ${read.value === null ? "absent" : "otherwise"}`;
  return refusal === "must" ? `${what} reads as if nothing had happened` : null;
}
