/** What holds for every read and write of a record, alone or in a batch; spec/http.md § Records. */

import { setImmediate } from "node:timers/promises";

import {
  HEAD_BYTES,
  MIN_RECORD_BYTES,
  RecordState,
  parseHead,
  toBase64url,
  type CurrentVersion,
  type RecordHead,
  type StoreSettings,
} from "@tacenda/protocol";

import type * as storage from "../storage/record-store.js";
import { HttpError } from "./http-error.js";

/** How often a write decides again because another one came in between, before it answers `overloaded`. */
export const MAX_ATTEMPTS = 8;

/** Records of a batch read at once: at a mebibyte each, what one request may hold in memory beside its own body. */
export const READ_STEP = 16;

/** Which version answers a read, or why none does. */
export type Reading =
  { status: "record" | "expired"; kept: storage.KeptVersion } | { status: "absent" } | { status: "inactive" };

/** Judges the read of `wanted`, a version of `record`; null when it is not kept. `now`: milliseconds since the epoch. */
export function judgeRead(
  { current, kept }: storage.StoredRecord,
  wanted: storage.KeptVersion | null,
  now: number,
): Reading {
  if (!current.active) return { status: "inactive" };
  // Expiry of the current version ends the earlier ones too, so it is decided first.
  if (kept !== null && hasExpired(kept, now)) return { status: "expired", kept };
  if (wanted === null) return { status: "absent" };
  return { status: wanted !== kept && hasExpired(wanted, now) ? "expired" : "record", kept: wanted };
}

/** The seal decides about expiry, and no column of the database. Of what was purged only the head is left. */
function hasExpired({ body }: storage.KeptVersion, now: number): boolean {
  if (body.length === HEAD_BYTES) return true;
  const head = parseHead(body);
  return typeof head !== "string" && head.expiresAt !== 0 && head.expiresAt <= now;
}

/** Whether a version says that the key has moved to another secret. Such a mark is final: nothing is written over it. */
export function isMoved(kept: storage.KeptVersion | null | undefined): boolean {
  if (!kept) return false;
  const head = parseHead(kept.body);
  return typeof head !== "string" && head.state === RecordState.moved;
}

/** Lets other requests have their turn between two steps over many records. */
export async function betweenSteps(start: number): Promise<void> {
  if (start > 0) await setImmediate();
}

/** The number and head of a kept version, as errors tell them. */
export function describeVersion({ version, body }: storage.KeptVersion): CurrentVersion {
  return { version, head: toBase64url(body.subarray(0, HEAD_BYTES)) };
}

/**
 * The head of a record to be written; `name` says in the error where it stands.
 * @throws {HttpError} `invalid_request` when it is no sealed record.
 */
export function readHead(record: Uint8Array, name: string): RecordHead {
  const head = record.length < MIN_RECORD_BYTES ? "truncated" : parseHead(record);
  if (typeof head !== "string") return head;
  throw new HttpError("invalid_request", { message: `${name} is not a sealed record: its head is ${head}.` });
}

/** One version to be written. */
export interface RecordWrite {
  ref: storage.RecordRef;
  body: Uint8Array;
  head: RecordHead;
  purgeEarlier: boolean;
}

/**
 * The write of the version after `current`, which must still be current then. `now`: milliseconds since the epoch.
 * @throws {HttpError} `record_protected` when the record is, and the write would delete, move or purge.
 */
export function toOperation(
  { ref, body, head, purgeEarlier }: RecordWrite,
  current: storage.RecordState | null,
  { maxVersions }: StoreSettings,
  now: number,
): storage.WriteOperation {
  if (current?.protected === true && (purgeEarlier || head.state !== RecordState.value)) {
    throw new HttpError("record_protected");
  }
  const next = current === null ? { version: 1, protected: false, active: true } : nextOf(current);
  const write = { body, expiresAt: head.expiresAt, createdAt: now };
  return { ref, expect: current, next, write, purgeEarlier, keepVersions: maxVersions };
}

function nextOf({ version, protected: isProtected, active }: storage.RecordState): storage.RecordState {
  return { version: version + 1, protected: isProtected, active };
}
