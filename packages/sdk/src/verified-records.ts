/**
 * Records as a holder of the secret sees them: read and opened, or sealed and written, and judged by the marks. Nothing
 * that failed to verify passes; spec/record.md § Opening, § Marks, § Writing.
 */

import { RecordState, encodeKeyHash } from "@tacenda/protocol";

import type { RecordKeys } from "./crypto/derive.js";
import type { Payload } from "./crypto/payload.js";
import {
  type OpenFault,
  type OpenedRecord,
  type RecordPlace,
  type VerifiedHead,
  openRecord,
  sealRecord,
  verifyHead,
} from "./crypto/record.js";
import { ProtocolError, RecordOpenError, RollbackError, UnsupportedFormatError } from "./errors.js";
import {
  type CallOptions,
  type RecordApi,
  type ServerClaims,
  type Unverified,
  nextVersion,
  outcomeUnknown,
} from "./http/record-api.js";
import { type Mark, type Marks, isRollback } from "./marks.js";

/** How far a server's clock may be ahead of ours before we call its "expired" a lie. */
const CLOCK_SKEW = 300_000;

/** What a verified read found; null when the server says that the key never existed. */
export type Found =
  { gone: false; record: OpenedRecord; claimed: ServerClaims } | { gone: true; head: VerifiedHead } | null;

/** What a write met: it happened, or this verified version is in the way (null: the key never existed). */
export type Written = { version: number } | { current: VerifiedHead | null };

export class VerifiedRecords {
  readonly #api: RecordApi;
  readonly #marks: Marks;
  readonly #project: string;
  readonly #storeId: string;

  constructor(api: RecordApi, marks: Marks, { project, storeId }: { project: string; storeId: string }) {
    this.#api = api;
    this.#marks = marks;
    this.#project = project;
    this.#storeId = storeId;
  }

  /** @throws {RecordOpenError} @throws {UnsupportedFormatError} @throws {RollbackError} and what RecordApi.read throws. */
  async read(keys: RecordKeys, options: CallOptions): Promise<Found> {
    const mark = this.mark(keys);
    const answer = await this.#api.read(this.#address(keys), options);
    if (answer.kind === "absent") {
      if (mark !== undefined) throw rollback(mark, 0);
      return null;
    }
    if (answer.kind === "expired") {
      const head = this.#verifyHead(keys, mark, answer);
      if (head.expiresAt !== 0 && head.expiresAt <= Date.now() + CLOCK_SKEW) return { gone: true, head };
      throw new ProtocolError("The server calls an entry expired that is not, by its seal: check the clocks of both.");
    }
    const record = requireVerified(openRecord(keys, this.#place(answer.version), answer.bytes));
    this.#judge(keys, mark, record);
    return isGone(record) ? { gone: true, head: record } : { gone: false, record, claimed: answer.claimed };
  }

  /**
   * Seals `payload` as the version after `previous` (0: the first) and writes it once. `previous` must come from the
   * caller's own `ifVersion`, a mark, or a verified head: else a server could push the key to its last version.
   *
   * @throws {OutcomeUnknownError} when the write was sent again and cannot be told from others'; it is never sealed again.
   */
  async write(keys: RecordKeys, previous: number, payload: Payload, options: CallOptions): Promise<Written> {
    const mark = this.mark(keys);
    const version = nextVersion(previous);
    const place = this.#place(version);
    const { record, commitment } = sealRecord(keys, place, { state: RecordState.value, expiresAt: 0 }, payload);
    const answer = await this.#api.write(this.#address(keys), version, record, options);
    if (answer.kind === "written") {
      if (mark !== undefined && version <= mark.version) throw rollback(mark, previous);
      this.#raise(keys, { version, commitment });
      return { version };
    }
    if (answer.current === null && mark !== undefined) throw rollback(mark, 0);
    const current = answer.current === null ? null : this.#verifyHead(keys, mark, answer.current);
    if (answer.resent) throw outcomeUnknown();
    // Versions only grow, so the version that a refusal names is a later one.
    if ((current?.version ?? 0) !== previous) return { current };
    throw new ProtocolError("The server refused to write over the very version that it calls current.");
  }

  /** The mark of a key as it stands now. */
  mark(keys: RecordKeys): Mark | undefined {
    return this.#marks.get(encodeKeyHash(keys.keyHash));
  }

  forgetMark(keys: RecordKeys): void {
    this.#marks.forget(encodeKeyHash(keys.keyHash));
  }

  #verifyHead(keys: RecordKeys, mark: Mark | undefined, { version, bytes }: Unverified): VerifiedHead {
    const head = requireVerified(verifyHead(keys, this.#place(version), bytes));
    this.#judge(keys, mark, head);
    return head;
  }

  /** Judged by the mark as it stood when the request was sent: answers may overtake each other. */
  #judge(keys: RecordKeys, mark: Mark | undefined, seen: VerifiedHead): void {
    if (mark !== undefined && isRollback(mark, seen)) throw rollback(mark, seen.version);
    this.#raise(keys, seen);
  }

  #raise(keys: RecordKeys, seen: Mark): void {
    if (!this.#marks.raise(encodeKeyHash(keys.keyHash), seen)) throw rollback(seen, seen.version);
  }

  #place(version: number): RecordPlace {
    return { project: this.#project, storeId: this.#storeId, version };
  }

  #address({ keyHash }: RecordKeys) {
    return { project: this.#project, store: this.#storeId, keyHash };
  }
}

/** Deleted, moved, or past its sealed expiry by our own clock, whatever the server thinks. */
function isGone({ state, expiresAt }: VerifiedHead): boolean {
  return state !== RecordState.value || isExpired(expiresAt);
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
