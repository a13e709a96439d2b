/**
 * The records of one store as its callers mean them: by logical key, under the store's secret, or under two while it is being
 * changed. Asks for the secret check before a write or an absence is believed; spec/record.md § Changing the secret.
 */

import {
  MAX_BATCH_OPERATIONS,
  MAX_BATCH_VALUES,
  RecordState,
  type RecordAttributes,
  type VersionInfo,
} from "@tacenda/protocol";

import { orAborted } from "./concurrency.js";
import type { RecordKeys } from "./crypto/derive.js";
import type { VerifiedHead } from "./crypto/record.js";
import {
  ConfigurationError,
  PermissionDeniedError,
  RequestTimeoutError,
  SecretRotatedError,
  TacendaError,
} from "./errors.js";
import type { CallOptions } from "./http/record-api.js";
import type { KeyCache } from "./key-cache.js";
import { inRounds } from "./rounds.js";
import type { KeySources, SecretGuard } from "./secret-guard.js";
import { type Draft, MOVED, TOMBSTONE } from "./value.js";
import type { LiveRecord } from "./value-cache.js";
import { type BatchWrite, type Found, type VerifiedRecords, type Written, headOf } from "./verified-records.js";

/** A logical key with what has been derived of it. */
export interface KeySet {
  key: string;
  sources: KeySources;
  current: RecordKeys;
}

/** What was found, and under which secret: `keys` are those of the hash it was found at. */
export interface Located {
  found: Found;
  keys: RecordKeys;
}

/** What became of a key in a bulk change of the secret. */
export type Migration = "moved" | "already" | "absent";

export class StoreRecords {
  readonly #records: VerifiedRecords;
  readonly #guard: SecretGuard;
  readonly #keys: KeyCache;

  constructor(records: VerifiedRecords, guard: SecretGuard, keys: KeyCache) {
    this.#records = records;
    this.#guard = guard;
    this.#keys = keys;
  }

  /** Derives what is needed of a checked key, and begins the secret check beside it. */
  async open(key: string, sources: KeySources, signal: AbortSignal | undefined): Promise<KeySet> {
    signal?.throwIfAborted();
    this.#guard.begin(sources);
    const keys = this.#keys.recordKeys(sources.current, key);
    return { key, sources, current: keys instanceof Promise ? await orAborted(keys, signal) : keys };
  }

  /** Resolves when the secret is known to be the store's. @throws {WrongSecretError} @throws {RequestTimeoutError} */
  async requireSecret(sources: KeySources, { signal, timeout }: CallOptions): Promise<void> {
    if (this.#guard.isProven(sources)) return;
    const verdict = orAborted(this.#guard.require(sources), signal);
    if (timeout === undefined) {
      await verdict;
      return;
    }
    // The check is shared with other calls, so what ends with this call is the wait.
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      const give = () =>
        reject(new RequestTimeoutError("The secret could not be checked in time. Try again, or raise `timeout`."));
      timer = setTimeout(give, timeout);
    });
    await Promise.race([verdict, late]).finally(() => clearTimeout(timer));
  }

  /**
   * The current version. A value still under a previous secret is moved first. What a write is decided by is asked of the
   * server, whatever is cached: `forWrite`.
   */
  async read(set: KeySet, call: CallOptions, { forWrite = false } = {}): Promise<Located> {
    const found = await this.#records.read(set.current, call, { uncached: forWrite });
    if (found !== null) {
      this.#guard.prove(set.sources);
      return { found, keys: set.current };
    }
    return await this.#readAbsentFrom(set, call);
  }

  /**
   * Writes the version after `previous` (0: the first) under the current secret. While there are previous secrets, the first
   * write of a key also marks it as moved under each, so that a client that has only an old one cannot write unseen. `refuse`
   * throws for what is found under a previous secret and must not be overwritten.
   */
  async write(
    set: KeySet,
    previous: number,
    draft: Draft,
    call: CallOptions,
    refuse: (head: VerifiedHead) => void = () => undefined,
  ): Promise<Written> {
    await this.requireSecret(set.sources, call);
    if (previous > 0 || set.sources.previous.length === 0) {
      return await this.#records.write(set.current, previous, draft, call);
    }
    return await inRounds<Written>(call, async () => {
      const located = await this.#locatePrevious(set, call);
      for (const { found } of located) {
        const head = headOf(found);
        if (head !== null && !isMoved(found)) refuse(head);
      }
      const first = { keys: set.current, previous: 0, draft };
      const result = await this.#records.writeBatch([first, ...movedMarks(located)], call);
      if (result.applied) return { done: { version: 1 } };
      const inTheWay = result.conflicts.get(0);
      return inTheWay === undefined ? { outrunBy: 0 } : { done: { current: inTheWay } };
    });
  }

  /**
   * Writes all drafts, each as the version after the last, or none; at most MAX_BATCH_VALUES. `refuse` throws for a version
   * in the way that must not be overwritten.
   */
  async writeMany(
    writes: readonly { set: KeySet; draft: Draft }[],
    call: CallOptions,
    refuse: (current: VerifiedHead) => void,
  ): Promise<number[]> {
    for (const { set } of writes) await this.requireSecret(set.sources, call);
    const operations = writes.reduce((sum, { set }) => sum + 1 + set.sources.previous.length, 0);
    if (operations > MAX_BATCH_OPERATIONS) {
      throw new ConfigurationError("With several previous secrets fewer values fit into one call: give fewer at once.");
    }
    const previous = await Promise.all(writes.map(({ set }) => this.lastSeen(set.current)));
    return await inRounds(call, async () => {
      const batch = writes.map(({ set, draft }, index) => ({
        keys: set.current,
        previous: previous[index] ?? 0,
        draft,
      }));
      const marks = await Promise.all(
        writes.map(async ({ set }, index) =>
          previous[index] === 0 ? movedMarks(await this.#locatePrevious(set, call)) : [],
        ),
      );
      const result = await this.#records.writeBatch([...batch, ...marks.flat()], call);
      if (result.applied) return { done: previous.map((version) => version + 1) };
      let outrunBy = 0;
      for (const [index, current] of result.conflicts) {
        if (index >= writes.length) continue;
        if (current !== null) refuse(current);
        previous[index] = outrunBy = current?.version ?? 0;
      }
      return { outrunBy };
    });
  }

  /** The current versions of many keys, in their order; an error in the place of what could not be read or believed. */
  async readMany(sets: readonly KeySet[], call: CallOptions): Promise<(Found | TacendaError)[]> {
    const results: (Found | TacendaError)[] = await Promise.all(
      sets.map(({ current }) => this.#records.readFresh(current)),
    );
    const missing = [...sets.keys()].filter((index) => results[index] === null);
    for (let start = 0; start < missing.length; start += MAX_BATCH_VALUES) {
      const indices = missing.slice(start, start + MAX_BATCH_VALUES);
      const found = await this.#records.readMany(
        indices.flatMap((index) => sets[index]?.current ?? []),
        call,
      );
      for (const [place, index] of indices.entries()) results[index] = found[place] ?? null;
    }
    return await Promise.all(
      sets.map(async (set, index) => {
        const result = results[index] ?? null;
        if (TacendaError.is(result)) return result;
        if (result !== null) this.#guard.prove(set.sources);
        // Absent: the secret may be wrong, or the value still be under a previous one.
        else return await errorOr(async () => (await this.#readAbsentFrom(set, call)).found);
        return result;
      }),
    );
  }

  /** Deletes what was located; with `purgeEarlier` its earlier versions as well. */
  async remove(set: KeySet, { found, keys }: Located, purgeEarlier: boolean, call: CallOptions): Promise<Written> {
    await this.requireSecret(set.sources, call);
    return await this.#records.write(keys, headOf(found)?.version ?? 0, TOMBSTONE, call, { purgeEarlier });
  }

  async readVersion(set: KeySet, version: number, call: CallOptions): Promise<Found> {
    const found = await this.#records.readVersion(await this.#locate(set, call), version, call);
    if (found === null) await this.requireSecret(set.sources, call);
    return found;
  }

  async listVersions(set: KeySet, call: CallOptions): Promise<VersionInfo[]> {
    const versions = await this.#records.listVersions(await this.#locate(set, call), call);
    if (versions === null) await this.requireSecret(set.sources, call);
    return versions ?? [];
  }

  /** False when the key never existed. */
  async setAttributes(set: KeySet, attributes: Partial<RecordAttributes>, call: CallOptions): Promise<boolean> {
    await this.requireSecret(set.sources, call);
    const keys = await this.#locate(set, call);
    // Reading is no way to learn the version, for an inactive entry refuses it. A wrong guess is answered with the version.
    let version = (await this.lastSeen(keys)) || 1;
    return await inRounds(call, async () => {
      const written = await this.#records.setAttributes(keys, version, attributes, call);
      if ("version" in written) return { done: true };
      if (written.current === null) return { done: false };
      version = written.current.version;
      return { outrunBy: version };
    });
  }

  /** Brings a key, deleted or not, under the current secret. */
  async migrate(set: KeySet, call: CallOptions): Promise<Migration> {
    return await inRounds<Migration>(call, async () => {
      if ((await this.#records.read(set.current, call, { uncached: true })) !== null) return { done: "already" };
      const { found, keys } = await this.#readAbsentFrom(set, call);
      if (found === null) return { done: "absent" };
      if (keys === set.current) return { done: "moved" };
      if (!found.gone) {
        throw new PermissionDeniedError("Moving keys to another secret needs the permissions read, write and delete.");
      }
      // Its tombstone moves too, or the old secret could write here again unseen. Only over what was found gone just now.
      const located = await this.#locatePrevious(set, call);
      if (located.some((other) => other.found?.gone === false)) return { outrunBy: 0 };
      const first = { keys: set.current, previous: 0, draft: TOMBSTONE };
      const { applied } = await this.#records.writeBatch([first, ...movedMarks(located)], call);
      return applied ? { done: "moved" } : { outrunBy: 0 };
    });
  }

  /** Lets the server forget the checks of the previous secrets. Needs the permission manage. */
  async forgetPreviousSecrets(sources: KeySources, call: CallOptions): Promise<void> {
    await this.#guard.forget(sources.previous, call);
  }

  /** The version of the current secret's mark, 0 for none. */
  async lastSeen(keys: RecordKeys): Promise<number> {
    return (await this.#records.mark(keys))?.version ?? 0;
  }

  async forgetMarks(set: KeySet): Promise<void> {
    await this.#records.forgetMark(set.current);
    for (const source of set.sources.previous) {
      await this.#records.forgetMark(await this.#keys.recordKeys(source, set.key));
    }
  }

  /** What there is of a key that the server says is absent under the current secret. */
  async #readAbsentFrom(set: KeySet, call: CallOptions): Promise<Located> {
    await this.requireSecret(set.sources, call);
    if (set.sources.previous.length === 0) return { found: null, keys: set.current };
    return await this.#readPrevious(set, call);
  }

  async #readPrevious(set: KeySet, call: CallOptions): Promise<Located> {
    return await inRounds(call, async () => {
      const all = await this.#locatePrevious(set, call);
      for (const located of all) {
        const { found } = located;
        if (found === null) continue;
        const outcome = isMoved(found)
          ? "moved"
          : found.gone
            ? "stays"
            : await this.#move(set, found, located, all, call);
        // Deleted or expired, or this token may not move it.
        if (outcome === "stays") return { done: located };
        if (outcome === "outrun") return { outrunBy: 0 };
        // Never the old value: what was moved may have been written anew since.
        const moved = await this.#records.read(set.current, call);
        if (moved !== null) return { done: { found: moved, keys: set.current } };
      }
      if (!all.some(({ found }) => isMoved(found))) return { done: { found: null, keys: set.current } };
      // The mark proves that there was a value under the secret that it was moved to.
      throw new SecretRotatedError(
        "This key has been moved to a secret that is not among those given, or the server hides what it was moved to.",
      );
    });
  }

  /**
   * Moves a value under the current secret, and marks it as moved under every previous one that has no value of its own.
   * `outrun`: another writer was faster; `stays`: this token may not.
   */
  async #move(
    set: KeySet,
    { record }: LiveRecord,
    from: Located,
    all: readonly Located[],
    call: CallOptions,
  ): Promise<"moved" | "outrun" | "stays"> {
    const { expiresAt, payload } = record;
    const value = { keys: set.current, previous: 0, draft: { state: RecordState.value, expiresAt, payload } };
    const others = all.filter((located) => located === from || located.found?.gone !== false);
    try {
      return (await this.#records.writeBatch([value, ...movedMarks(others)], call)).applied ? "moved" : "outrun";
    } catch (error) {
      if (TacendaError.is(error, "permission_denied")) return "stays";
      throw error;
    }
  }

  async #locatePrevious(set: KeySet, call: CallOptions): Promise<Located[]> {
    const located: Located[] = [];
    for (const source of set.sources.previous) {
      const keys = await this.#keys.recordKeys(source, set.key);
      located.push({ keys, found: await this.#records.read(keys, call, { uncached: true }) });
    }
    return located;
  }

  /** The keys under whose hash the record is: the current ones, unless it is still under a previous secret. */
  async #locate(set: KeySet, call: CallOptions): Promise<RecordKeys> {
    if (set.sources.previous.length === 0 || (await this.#records.read(set.current, call)) !== null) return set.current;
    const previous = await this.#locatePrevious(set, call);
    return previous.find(({ found }) => found !== null && !isMoved(found))?.keys ?? set.current;
  }
}

/** The marks that tell holders of previous secrets that a key has moved, where they are not there yet. */
function movedMarks(located: readonly Located[]): BatchWrite[] {
  return located
    .filter(({ found }) => !isMoved(found))
    .map(({ keys, found }) => ({
      keys,
      previous: headOf(found)?.version ?? 0,
      draft: MOVED,
      purgeEarlier: found !== null,
    }));
}

/** The result, or our own error in its place. */
async function errorOr<T>(work: () => Promise<T>): Promise<T | TacendaError> {
  try {
    return await work();
  } catch (error) {
    if (TacendaError.is(error)) return error;
    throw error;
  }
}

function isMoved(found: Found): boolean {
  return headOf(found)?.state === RecordState.moved;
}
