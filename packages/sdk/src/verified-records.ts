/**
 * Records as a holder of the secret sees them: read and opened, or sealed and written, and judged by the marks. Nothing
 * that failed to verify passes; spec/record.md § Opening, § Marks, § Writing.
 */

import { RecordState, encodeKeyHash, type RecordAttributes, type VersionInfo } from "@tacenda/protocol";

import type { RecordKeys } from "./crypto/derive.js";
import {
  type OpenFault,
  type RecordPlace,
  type VerifiedHead,
  openRecord,
  sealRecord,
  verifyHead,
} from "./crypto/record.js";
import {
  ProtocolError,
  RecordInactiveError,
  RecordOpenError,
  RollbackError,
  ServerFaultError,
  TacendaError,
  UnsupportedFormatError,
} from "./errors.js";
import type { BatchApi } from "./http/batch-api.js";
import {
  type CallOptions,
  type ReadAnswer,
  type RecordApi,
  type Unverified,
  nextVersion,
  outcomeUnknown,
} from "./http/record-api.js";
import { type Mark, type VersionMemory, isRollback } from "./marks.js";
import type { Draft } from "./value.js";
import type { LiveRecord, ValueCache } from "./value-cache.js";

/** How far a server's clock may be ahead of ours before we call its "expired" a lie. */
const CLOCK_SKEW = 300_000;
const ANOTHER_VERSION = "The server answered with another version than was asked for.";

/** What a verified read found; null when the server says that the key never existed. */
export type Found = LiveRecord | { gone: true; head: VerifiedHead } | null;

/** What a write met: it happened, or this verified version is in the way (null: the key never existed). */
export type Written = { version: number } | { current: VerifiedHead | null };

/** One write of a batch: as of `write`. */
export interface BatchWrite {
  keys: RecordKeys;
  previous: number;
  draft: Draft;
  purgeEarlier?: boolean;
}

/** Everything was written, or nothing, and these writes (by index) met the verified version given (null: none). */
export type BatchWritten = { applied: true } | { applied: false; conflicts: Map<number, VerifiedHead | null> };

export class VerifiedRecords {
  readonly #api: RecordApi;
  readonly #batches: BatchApi;
  readonly #marks: VersionMemory;
  readonly #cache: ValueCache | undefined;
  readonly #project: string;
  readonly #storeId: string;

  constructor(
    api: RecordApi,
    batches: BatchApi,
    marks: VersionMemory,
    cache: ValueCache | undefined,
    { project, storeId }: { project: string; storeId: string },
  ) {
    this.#api = api;
    this.#batches = batches;
    this.#marks = marks;
    this.#cache = cache;
    this.#project = project;
    this.#storeId = storeId;
  }

  /** @throws {RecordOpenError} @throws {UnsupportedFormatError} @throws {RollbackError} and what RecordApi.read throws. */
  async read(keys: RecordKeys, options: CallOptions, { uncached = false } = {}): Promise<Found> {
    const mark = await this.mark(keys);
    const keyHash = encodeKeyHash(keys.keyHash);
    const cached = uncached ? undefined : this.#cached(keyHash, mark);
    const fresh = cached && this.#cache?.fresh(keyHash);
    if (fresh !== undefined) return liveOrGone(fresh);
    const generation = this.#cache?.generation;
    try {
      const found = await this.#readFromServer(keys, mark, cached, options);
      this.#keep(keys, found, generation);
      return found;
    } catch (error) {
      if (uncached || !TacendaError.is(error)) throw error;
      const fallback = this.#fallback(keys, mark, error);
      if (TacendaError.is(fallback)) throw error;
      return fallback;
    }
  }

  async #readFromServer(
    keys: RecordKeys,
    mark: Mark | undefined,
    cached: LiveRecord | undefined,
    options: CallOptions,
  ): Promise<Found> {
    const answer = await this.#api.read(this.#address(keys), options, { unlessVersion: cached?.record.version });
    if (answer.kind !== "unchanged") return await this.#judged(keys, mark, answer);
    if (cached === undefined) throw new ProtocolError("The server sent no record, though none was known here.");
    await this.#judge(keys, mark, cached.record);
    return liveOrGone({ ...cached, claimed: answer.claimed });
  }

  /** What an answer proves, judged by the mark as it stood when the request was sent. */
  async #judged(
    keys: RecordKeys,
    mark: Mark | undefined,
    answer: Exclude<ReadAnswer, { kind: "unchanged" }>,
  ): Promise<Found> {
    if (answer.kind === "absent") {
      if (mark !== undefined) throw rollback(mark, 0);
      return null;
    }
    if (answer.kind === "expired") return requireExpired(await this.#verifyHead(keys, mark, answer));
    const record = requireVerified(openRecord(keys, this.#place(answer.version), answer.bytes));
    await this.#judge(keys, mark, record);
    return liveOrGone({ gone: false, record, claimed: answer.claimed });
  }

  /** Caches what was read, unless something was written or the cache emptied since the read began. */
  #keep({ keyHash }: RecordKeys, found: Found, generation: number | undefined): void {
    if (found?.gone !== false) this.#cache?.delete(encodeKeyHash(keyHash));
    else if (this.#cache?.generation === generation) this.#cache?.set(encodeKeyHash(keyHash), found);
  }

  /** Runs an exchange after which what is cached of these keys may be wrong, whatever comes of it. */
  async #changing<T>(keys: readonly RecordKeys[], exchange: () => Promise<T>): Promise<T> {
    const forget = () => {
      for (const { keyHash } of keys) this.#cache?.delete(encodeKeyHash(keyHash));
    };
    forget();
    try {
      return await exchange();
    } finally {
      forget();
    }
  }

  #seal(keys: RecordKeys, previous: number, { state, expiresAt, payload }: Draft) {
    const version = nextVersion(previous);
    const sealed = sealRecord(keys, this.#place(version), { state, expiresAt }, { ...payload, sealedAt: Date.now() });
    return { version, ...sealed };
  }

  /** A write of our own was acknowledged. */
  async #acknowledged(keys: RecordKeys, mark: Mark | undefined, { version, commitment }: Mark): Promise<void> {
    if (mark !== undefined && version <= mark.version) throw rollback(mark, version - 1);
    await this.#raise(keys, { version, commitment });
  }

  /** What is cached of a key, unless this client knows of a newer version: by a write of its own, or another's answer. */
  #cached(keyHash: string, mark: Mark | undefined): LiveRecord | undefined {
    const cached = this.#cache?.stale(keyHash);
    return cached !== undefined && mark !== undefined && mark.version > cached.record.version ? undefined : cached;
  }

  /**
   * Seals `payload` as the version after `previous` (0: the first) and writes it once. `previous` must come from the
   * caller's own `ifVersion`, a mark, or a verified head: else a server could push the key to its last version.
   *
   * @throws {OutcomeUnknownError} when the write was sent again and cannot be told from others'; it is never sealed again.
   */
  async write(
    keys: RecordKeys,
    previous: number,
    draft: Draft,
    options: CallOptions,
    purge: { purgeEarlier?: boolean } = {},
  ): Promise<Written> {
    const mark = await this.mark(keys);
    const { version, record, commitment } = this.#seal(keys, previous, draft);
    const answer = await this.#changing([keys], () =>
      this.#api.write(this.#address(keys), version, record, options, purge),
    );
    if (answer.kind === "written") {
      await this.#acknowledged(keys, mark, { version, commitment });
      return { version };
    }
    const { current: inTheWay, resent } = answer;
    return { current: await inDoubt(resent, () => this.#conflict(keys, mark, previous, inTheWay)) };
  }

  /** Seals and writes all, or nothing, once. Each key at most once; throws as `write` does. */
  async writeBatch(writes: readonly BatchWrite[], options: CallOptions): Promise<BatchWritten> {
    const marks = await Promise.all(writes.map(({ keys }) => this.mark(keys)));
    const sealed = writes.map(({ keys, previous, draft }) => this.#seal(keys, previous, draft));
    const records = sealed.map(({ version, record }, index) => {
      const { keyHash } = writes[index]?.keys ?? { keyHash: new Uint8Array(0) };
      return { keyHash, version, record, purgeEarlier: writes[index]?.purgeEarlier ?? false };
    });
    const answer = await this.#changing(
      writes.map(({ keys }) => keys),
      () => this.#batches.write(records, options),
    );
    const conflicts = new Map<number, VerifiedHead | null>();
    if (answer.kind === "written") {
      for (const [index, { keys }] of writes.entries()) {
        const seal = sealed[index];
        if (seal !== undefined) await this.#acknowledged(keys, marks[index], seal);
      }
      return { applied: true };
    }
    await inDoubt(answer.resent, async () => {
      for (const [index, { keys, previous }] of writes.entries()) {
        const inTheWay = answer.conflicts.get(index);
        if (inTheWay !== undefined) conflicts.set(index, await this.#conflict(keys, marks[index], previous, inTheWay));
      }
    });
    return { applied: false, conflicts };
  }

  /** What need not be asked for: fresh in the cache, and nothing newer known. */
  async readFresh(keys: RecordKeys): Promise<Found> {
    const keyHash = encodeKeyHash(keys.keyHash);
    const fresh = this.#cached(keyHash, await this.mark(keys)) && this.#cache?.fresh(keyHash);
    return fresh === undefined ? null : liveOrGone(fresh);
  }

  /** Reads many, in one request; an error in the place of what could not be read, opened or believed. */
  async readMany(keys: readonly RecordKeys[], options: CallOptions): Promise<(Found | TacendaError)[]> {
    const marks = await Promise.all(keys.map((one) => this.mark(one)));
    const generation = this.#cache?.generation;
    const hashes = keys.map(({ keyHash }) => keyHash);
    const answers = await this.#batches.read(hashes, options).catch((error: unknown) => {
      if (TacendaError.is(error)) return error;
      throw error;
    });
    return await Promise.all(
      keys.map(async (one, index) => {
        try {
          if (!Array.isArray(answers)) return this.#fallback(one, marks[index], answers);
          const answer = answers[index];
          if (answer === undefined || answer.kind === "fetch_singly") return await this.read(one, options);
          if (answer.kind === "inactive")
            throw new RecordInactiveError("The entry is inactive: make it active to read it.");
          if (answer.kind === "damaged")
            throw new ServerFaultError("The stored record is damaged: restore it from a backup.");
          const found = await this.#judged(one, marks[index], answer);
          this.#keep(one, found, generation);
          return found;
        } catch (error) {
          if (TacendaError.is(error)) return error;
          throw error;
        }
      }),
    );
  }

  /** What is still good enough when the server cannot be asked; else the error. */
  #fallback(keys: RecordKeys, mark: Mark | undefined, error: TacendaError): Found | TacendaError {
    const keyHash = encodeKeyHash(keys.keyHash);
    // An expired certificate is an outage too, though to ask again is no use.
    const away = error.retryable || error.code === "server_unreachable";
    const fallback = away && this.#cached(keyHash, mark) ? this.#cache?.fallback(keyHash) : undefined;
    return fallback === undefined ? error : liveOrGone(fallback);
  }

  /** Sets attributes of `version`, once. To set them again changes nothing, so it is in no doubt. */
  async setAttributes(
    keys: RecordKeys,
    version: number,
    attributes: Partial<RecordAttributes>,
    options: CallOptions,
  ): Promise<Written> {
    const mark = await this.mark(keys);
    const answer = await this.#changing([keys], () =>
      this.#api.setAttributes(this.#address(keys), version, attributes, options),
    );
    if (answer.kind === "written") return { version };
    return { current: await this.#conflict(keys, mark, version, answer.current) };
  }

  /** A kept version, verified as that version. The marks do not learn of it, and judge it only by being of that version. */
  async readVersion(keys: RecordKeys, version: number, options: CallOptions): Promise<Found> {
    const mark = await this.mark(keys);
    const answer = await this.#api.read(this.#address(keys), options, { version });
    if (answer.kind === "absent") return null;
    if (answer.kind === "unchanged") throw new ProtocolError("The server sent no record, though none was known here.");
    if (answer.kind === "expired") {
      const head = requireVerified(verifyHead(keys, this.#place(answer.version), answer.bytes));
      const found = requireExpired(head);
      // It may be the current version that has expired, and all others with it. There never was one above it.
      if (answer.version >= version) return found;
      if (mark !== undefined && isRollback(mark, head)) throw rollback(mark, head.version);
      return null;
    }
    if (answer.version !== version) throw new ProtocolError(ANOTHER_VERSION);
    const record = requireVerified(openRecord(keys, this.#place(version), answer.bytes));
    // Of the version in the mark there is one record only.
    if (mark?.version === version && isRollback(mark, record)) throw rollback(mark, version);
    return liveOrGone({ gone: false, record, claimed: answer.claimed });
  }

  /** What the server says it keeps of a key; null when it says that there never was one. */
  async listVersions(keys: RecordKeys, options: CallOptions): Promise<VersionInfo[] | null> {
    const mark = await this.mark(keys);
    const versions = await this.#api.listVersions(this.#address(keys), options);
    if (versions === null && mark !== undefined) throw rollback(mark, 0);
    return versions;
  }

  /** The mark of a key as it stands now. */
  async mark(keys: RecordKeys): Promise<Mark | undefined> {
    return await this.#marks.get(encodeKeyHash(keys.keyHash));
  }

  async forgetMark(keys: RecordKeys): Promise<void> {
    this.#cache?.delete(encodeKeyHash(keys.keyHash));
    await this.#marks.forget(encodeKeyHash(keys.keyHash));
  }

  /** The verified version that refused a write which expected `previous`; null when the key never existed. */
  async #conflict(
    keys: RecordKeys,
    mark: Mark | undefined,
    previous: number,
    unverified: Unverified | null,
  ): Promise<VerifiedHead | null> {
    if (unverified === null && mark !== undefined) throw rollback(mark, 0);
    const current = unverified === null ? null : await this.#verifyHead(keys, mark, unverified);
    // Versions only grow, so the version that a refusal names is another one; but a moved mark is never written over.
    if ((current?.version ?? 0) !== previous || current?.state === RecordState.moved) return current;
    throw new ProtocolError("The server refused to write over the very version that it calls current.");
  }

  async #verifyHead(keys: RecordKeys, mark: Mark | undefined, { version, bytes }: Unverified): Promise<VerifiedHead> {
    const head = requireVerified(verifyHead(keys, this.#place(version), bytes));
    await this.#judge(keys, mark, head);
    return head;
  }

  /** Judged by the mark as it stood when the request was sent: answers may overtake each other. */
  async #judge(keys: RecordKeys, mark: Mark | undefined, seen: VerifiedHead): Promise<void> {
    if (mark !== undefined && isRollback(mark, seen)) throw rollback(mark, seen.version);
    await this.#raise(keys, seen);
  }

  async #raise(keys: RecordKeys, seen: Mark): Promise<void> {
    if (!(await this.#marks.raise(encodeKeyHash(keys.keyHash), seen))) throw rollback(seen, seen.version);
  }

  #place(version: number): RecordPlace {
    return { project: this.#project, storeId: this.#storeId, version };
  }

  #address({ keyHash }: RecordKeys) {
    return { project: this.#project, store: this.#storeId, keyHash };
  }
}

/** What a refusal comes to. Of a write that was sent again it is that nobody knows, whatever the refusal proves. */
async function inDoubt<T>(resent: boolean, judge: () => Promise<T>): Promise<T> {
  if (!resent) return await judge();
  try {
    await judge();
  } catch (error) {
    if (TacendaError.is(error)) throw outcomeUnknown(error);
    throw error;
  }
  throw outcomeUnknown();
}

/** A head that the server calls expired. @throws {ProtocolError} when by its seal it is not. */
function requireExpired(head: VerifiedHead): Found {
  if (head.expiresAt !== 0 && head.expiresAt <= Date.now() + CLOCK_SKEW) return { gone: true, head };
  throw new ProtocolError("The server calls an entry expired that is not, by its seal: check the clocks of both.");
}

/** Gone if it is deleted, moved, or past its sealed expiry by our own clock, whatever the server thinks. */
function liveOrGone(live: LiveRecord): Found {
  const { state, expiresAt } = live.record;
  return state !== RecordState.value || isExpired(expiresAt) ? { gone: true, head: live.record } : live;
}

/** Whether a sealed expiry (milliseconds, 0 for never) has passed. */
export function isExpired(expiresAt: number): boolean {
  return expiresAt !== 0 && expiresAt <= Date.now();
}

function requireVerified<T extends object>(result: T | OpenFault): T {
  if (typeof result === "object") return result;
  if (result === "unsupported_format") {
    throw new UnsupportedFormatError("The record is of a format this SDK does not know: update @tacenda/sdk.");
  }
  throw new RecordOpenError(
    "The record does not open. It was altered, or written with another secret, iterations or stretch, or for another " +
      "key, store or project.",
  );
}

function rollback(mark: Mark, version: number): RollbackError {
  const found = version === 0 ? "the server says that it never existed" : `the server shows version ${version}`;
  return new RollbackError(
    `This client has seen version ${mark.version} of the key, but ${found}, or another record of the same version. If the ` +
      "server was honestly restored from a backup, call forgetMark(key).",
  );
}

/** The verified head of what was found. */
export function headOf(found: Found): VerifiedHead | null {
  if (found === null) return null;
  return found.gone ? found.head : found.record;
}
