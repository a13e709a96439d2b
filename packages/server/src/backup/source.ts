/** Where records are read from, in one order whatever it is: a database as it is now, or a backup's files. */

import type { KeyRow } from "../storage/portable.js";
import { compareRefs, type RecordRef } from "../storage/record-store.js";
import type { RecordSummary, Snapshot } from "../storage/snapshot.js";

/** Records whose bodies are read together: so many at most, and no more bytes. */
const GROUP_RECORDS = 200;
const GROUP_BYTES = 1_048_576;

/** A store by its names. */
export interface StoreRef {
  project: string;
  store: string;
}

export interface SourceRecord {
  record: RecordSummary;
  /** The bodies of its versions in their order; once, and before the next record. */
  bodies: () => AsyncGenerator<Uint8Array>;
}

export interface RecordSource {
  /** Stores that are not destroyed, in the order of their records. */
  readonly stores: readonly StoreRef[];
  /** Every wrapped key. Stores and keys are held in memory, records are not. */
  readonly keys: readonly KeyRow[];
  /** All records, ordered by project, store and id. */
  records(): AsyncGenerator<SourceRecord>;
}

export function refOf({ record: { project, store, record_id: id } }: SourceRecord): RecordRef {
  return { project, store, id };
}

/** The order of records; 0 when they are the same one. */
export function compareRecords(a: SourceRecord, b: SourceRecord): number {
  return compareRefs(refOf(a), refOf(b));
}

/** The name of a store in messages and maps. */
export function placeOf({ project, store }: StoreRef): string {
  return `${project}/${store}`;
}

/** The name of a record in messages. */
export function nameOf({ project, store, record_id }: RecordSummary): string {
  return `Record ${Buffer.from(record_id).toString("hex")} of store ${store} in project ${project}`;
}

/** What a snapshot holds. @throws {StorageError} */
export async function snapshotSource(snapshot: Snapshot): Promise<RecordSource> {
  const keys: KeyRow[] = [];
  for await (const key of snapshot.rows("store_keys")) keys.push(key);
  const stores: StoreRef[] = [];
  for await (const row of snapshot.rows("stores")) {
    if (row.destroyed_at === null) stores.push({ project: row.project, store: row.id });
  }
  stores.sort(compareStores);
  return { stores, keys, records: () => snapshotRecords(snapshot, stores) };
}

/** All records there are, of stores that are not there included. @throws {StorageError} */
export async function* everyRecord(snapshot: Snapshot): AsyncGenerator<SourceRecord> {
  for await (const store of snapshot.storesWithRecords()) yield* snapshotRecords(snapshot, [store]);
}

/** The order of records, as far as their stores decide it. */
export function compareStores(a: StoreRef, b: StoreRef): number {
  if (a.project !== b.project) return a.project < b.project ? -1 : 1;
  return a.store < b.store ? -1 : Number(a.store > b.store);
}

async function* snapshotRecords(snapshot: Snapshot, stores: readonly StoreRef[]): AsyncGenerator<SourceRecord> {
  for (const { project, store } of stores) {
    for await (const group of smallGroups(snapshot.records(project, store))) yield* withBodies(snapshot, group);
  }
}

/** Records one after the other whose bodies together take little memory, or one whose bodies take more. */
async function* smallGroups(records: AsyncGenerator<RecordSummary>): AsyncGenerator<readonly RecordSummary[]> {
  let group: RecordSummary[] = [];
  let bytes = 0;
  for await (const record of records) {
    const size = sizeOf(record);
    if (group.length > 0 && (bytes + size > GROUP_BYTES || group.length === GROUP_RECORDS)) {
      yield group;
      group = [];
      bytes = 0;
    }
    group.push(record);
    bytes += size;
  }
  if (group.length > 0) yield group;
}

/** Bodies are read when they are first asked for, and then those of the rest of the group as well. */
function* withBodies(snapshot: Snapshot, group: readonly RecordSummary[]): Generator<SourceRecord> {
  let read: { from: number; bodies: Uint8Array[] } | undefined;
  let next = 0;
  for (const record of group) {
    const start = next;
    next += record.versions.length;
    const bodies = async function* () {
      if (sizeOf(record) <= GROUP_BYTES) {
        read ??= { from: start, bodies: await snapshot.bodies(record, group.at(-1) ?? record) };
        yield* read.bodies.slice(start - read.from, start - read.from + record.versions.length);
      } else {
        for (const { version } of record.versions) yield await snapshot.body(record, version);
      }
    };
    yield { record, bodies };
  }
}

function sizeOf({ versions }: RecordSummary): number {
  return versions.reduce((sum, { size }) => sum + size, 0);
}

/** How far the records of some stores have been read. Ids are hashes, so a place among them tells how many come before. */
export class Progress {
  readonly #stores: ReadonlyMap<string, number>;

  constructor(stores: readonly StoreRef[]) {
    this.#stores = new Map(stores.map((store, index) => [placeOf(store), index]));
  }

  /** 0 to `total`; stores count alike, whatever is in them. */
  at(record: Pick<RecordSummary, "project" | "store" | "record_id">): number {
    const [first = 0, second = 0] = record.record_id;
    return (this.#stores.get(placeOf(record)) ?? 0) + (first * 256 + second) / 65_536;
  }

  get total(): number {
    return this.#stores.size;
  }
}
