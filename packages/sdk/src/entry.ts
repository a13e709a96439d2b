/** What a key holds, as `getEntry` tells it. */

import type { ServerClaims } from "./http/record-api.js";

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
