/** Encrypts and blinds on the way to the database, and verifies on the way back; spec/envelope.md. */

import {
  StaleKeyError,
  type CommitResult,
  type ReadRef,
  type RecordRef,
  type RecordState,
  type RecordStore,
  type RecordVersions,
  type StoredRecord,
  type WriteOperation,
} from "../storage/record-store.js";
import { DamagedRecordError, StoreGoneError } from "./errors.js";
import { BODY_OVERHEAD_BYTES, dataKeyVersion, type OpenStore } from "./open-store.js";
import type { KeyUse, StoreKeys } from "./store-keys.js";

const NO_BODY = new Uint8Array(0);

/** How often keys that turn out to be stale are loaded anew for one call. */
const MAX_ATTEMPTS = 3;

/** What a call is about: a read or an operation, its store's keys, and the record's id below the envelope. */
interface Target<Item> {
  item: Item;
  store: OpenStore;
  ref: RecordRef;
}

/**
 * A RecordStore whose ids are key hashes and whose bodies are sealed records, over one that sees neither. Beyond what
 * RecordStore says, both calls throw StoreGoneError when a store has no keys (any more), and KeyProviderError when they
 * cannot be unwrapped.
 */
export class EnvelopeStore implements RecordStore {
  readonly #records: RecordStore;
  readonly #keys: StoreKeys;

  constructor(records: RecordStore, keys: StoreKeys) {
    this.#records = records;
    this.#keys = keys;
  }

  /** @throws {DamagedRecordError} when any record does not verify; its `positions` say which. */
  async read(refs: readonly ReadRef[]): Promise<(StoredRecord | null)[]> {
    let targets = await this.#open(refs, (ref) => ref, "read");
    let found = await this.#find(targets);
    // Another server may have begun to write under a data key that is newer than what is cached here, or have re-encrypted
    // and given up the one that the body was still under when it was read.
    let unknown = unknownKeys(targets, found);
    for (let attempt = 1; unknown !== "" && attempt < MAX_ATTEMPTS; attempt++) {
      const isNew = await this.#reload(targets.filter(({ store }, index) => namesUnknownKey(store, found[index])));
      targets = await this.#open(refs, (ref) => ref, "read");
      found = await this.#find(targets);
      const left = unknownKeys(targets, found);
      // The row is damaged: nobody has such a key.
      if (!isNew && left === unknown) break;
      unknown = left;
    }

    const damaged: number[] = [];
    const records = targets.map((target, index) => {
      const record = found[index] ?? null;
      const opened = record && openRecord(target, record);
      if (record !== null && opened === null) damaged.push(index);
      return opened;
    });
    if (damaged.length > 0) throw new DamagedRecordError(damaged);
    return records;
  }

  /**
   * No body is opened: what is told of a version is as good as the database.
   * @throws {DamagedRecordError} when the record's state does not verify, or its current version is gone.
   */
  async versions(ref: RecordRef): Promise<RecordVersions | null> {
    const store = await this.#keys.open(ref.project, ref.store, "read");
    if (store === null) throw new StoreGoneError();
    const id = store.recordId(ref.id);
    const found = await this.#records.versions({ ...ref, id });
    if (found === null) return null;
    const { current, versions } = found;
    const isSound = store.verifyTag(id, current) && versions[0]?.version === current.version;
    if (!isSound || versions.some(({ size }) => size < BODY_OVERHEAD_BYTES)) throw new DamagedRecordError([0]);
    return {
      current: withoutTag(current),
      versions: versions.map((version) => ({ ...version, size: version.size - BODY_OVERHEAD_BYTES })),
    };
  }

  async commit(operations: readonly WriteOperation[]): Promise<CommitResult> {
    for (let attempt = 1; ; attempt++) {
      const targets = await this.#open(operations, (operation) => operation.ref, "write");
      try {
        return await this.#records.commit(targets.map(seal));
      } catch (error) {
        if (!(error instanceof StaleKeyError) || attempt === MAX_ATTEMPTS) throw error;
      }
      // Nothing was written: the data key was rotated, or the store destroyed, since its keys were loaded.
      await this.#reload(targets);
    }
  }

  #find(targets: readonly Target<ReadRef>[]): Promise<(StoredRecord | null)[]> {
    return this.#records.read(targets.map(({ item, ref }) => ({ ...item, ...ref })));
  }

  /** Finds the keys for each item, with one look-up per store. */
  async #open<Item>(items: readonly Item[], refOf: (item: Item) => RecordRef, use: KeyUse): Promise<Target<Item>[]> {
    const targets: Target<Item>[] = [];
    for (const item of items) {
      const { project, store: name, id } = refOf(item);
      const known = targets.find(({ ref }) => ref.project === project && ref.store === name);
      const store = known?.store ?? (await this.#keys.open(project, name, use));
      if (store === null) throw new StoreGoneError();
      targets.push({ item, store, ref: { project, store: name, id: store.recordId(id) } });
    }
    return targets;
  }

  /** Whether any of their stores has other keys now. */
  async #reload(targets: readonly Target<unknown>[]): Promise<boolean> {
    let isNew = false;
    for (const { ref, store } of targets) {
      if ((await this.#keys.reload(ref.project, ref.store, store)) !== store) isNew = true;
    }
    return isNew;
  }
}

/** Which of the bodies name data keys that their stores do not have, as text to compare; empty when none does. */
function unknownKeys(targets: readonly Target<ReadRef>[], found: readonly (StoredRecord | null)[]): string {
  const unknown = targets.flatMap(({ store }, index) => {
    const record = found[index];
    return namesUnknownKey(store, record) ? [`${index}:${dataKeyVersion(record?.kept?.body ?? NO_BODY) ?? 0}`] : [];
  });
  return unknown.join();
}

function namesUnknownKey(store: OpenStore, record: StoredRecord | null | undefined): boolean {
  const version = record?.kept ? dataKeyVersion(record.kept.body) : null;
  return version !== null && !store.knowsDataKey(version);
}

/** The record as it is above the envelope, or null when it is not what was written for this target. */
function openRecord({ item, store, ref }: Target<ReadRef>, { current, kept }: StoredRecord): StoredRecord | null {
  if (!store.verifyTag(ref.id, current)) return null;
  const wanted = item.version ?? current.version;
  if (kept === null) {
    // An earlier version may have been dropped; the current one is always kept.
    return wanted === current.version ? null : { current: withoutTag(current), kept };
  }
  // The body is bound to its version, so a row that was renumbered does not open.
  const body = store.open(ref.id, wanted, kept.body);
  return body && { current: withoutTag(current), kept: { version: wanted, body, createdAt: kept.createdAt } };
}

/** The operation as the store below sees it. It always names a data key, so that none lands in a store that is gone. */
function seal({ item, store, ref }: Target<WriteOperation>): WriteOperation {
  const { next, write } = item;
  return {
    ...item,
    ref,
    next: { ...withoutTag(next), tag: store.tag(ref.id, next) },
    ...(write && { write: { ...write, body: store.seal(ref.id, next.version, write.body) } }),
    keyVersion: store.current.version,
  };
}

function withoutTag({ version, protected: isProtected, active }: RecordState): RecordState {
  return { version, protected: isProtected, active };
}
