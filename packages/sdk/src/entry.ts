/** What a key holds, as `getEntry` tells it. */

import { RecordState } from "@tacenda/protocol";

import type { VerifiedHead } from "./crypto/record.js";
import { AlreadyExistsError, NotTextError, SecretRotatedError } from "./errors.js";
import type { ServerClaims } from "./http/record-api.js";
import { type Found, headOf, isExpired } from "./verified-records.js";

/** True of every entry; all of it is sealed by a holder of the secret. */
interface SealedEntry {
  version: number;
  /** When it expires, or null for never. */
  expiresAt: Date | null;
}

/** A key with a value. */
export interface LiveEntry extends SealedEntry {
  state: "live";
  value: string | Uint8Array;
  /** What was given to `setValue`; empty when nothing was. */
  metadata: Record<string, unknown>;
  /** When it was sealed, by the writer's clock. */
  sealedAt: Date;
  /** What merely the server says. */
  claimed: ServerClaims;
}

/** A key whose last version is a proven tombstone, or has provably expired. */
export interface GoneEntry extends SealedEntry {
  state: "deleted" | "expired";
  value: null;
}

export type Entry = LiveEntry | GoneEntry;

/** The entry that was found. @throws {SecretRotatedError} */
export function entryOf(found: Found): Entry | null {
  const head = headOf(found);
  if (found === null || head === null) return null;
  refuseMoved(head);
  const expiresAt = head.expiresAt === 0 ? null : new Date(head.expiresAt);
  const { version } = head;
  if (found.gone) {
    return { state: head.state === RecordState.tombstone ? "deleted" : "expired", value: null, version, expiresAt };
  }
  const { text, value, metadata, metadataObject, sealedAt } = found.record.payload;
  return {
    state: "live",
    value: text ?? value.slice(),
    version,
    sealedAt: new Date(sealedAt),
    expiresAt,
    // The caller's own, whatever a cache keeps.
    metadata: metadata.length === 0 ? {} : structuredClone(metadataObject),
    claimed: { ...found.claimed },
  };
}

/** The text of an entry, null for none. @throws {NotTextError} */
export function textOf(entry: Entry | null): string | null {
  const value = entry?.value ?? null;
  if (value === null || typeof value === "string") return value;
  throw new NotTextError("The value was stored as bytes: read it with getBytes.");
}

/** @throws {SecretRotatedError} when the key has been moved to another secret. */
export function refuseMoved({ state }: VerifiedHead): void {
  if (state !== RecordState.moved) return;
  throw new SecretRotatedError("This key has been moved to another secret: use the store's current secret.");
}

/** @throws {AlreadyExistsError} when the head is that of a live value; and as `refuseMoved`. */
export function refuseLive(current: VerifiedHead): void {
  refuseMoved(current);
  if (current.state !== RecordState.value || isExpired(current.expiresAt)) return;
  throw new AlreadyExistsError("The key already has a value: use setValue to overwrite it.");
}
