/** Writes of which nobody can say at once whether they were made; spec/http.md § Replay. */

import { MAX_VERSION } from "@tacenda/protocol";

import { StorageError, type RecordRef, type RecordState, type RecordStore } from "../storage/record-store.js";
import { PATIENCE, pause } from "../storage/patience.js";
import { HttpError } from "./http-error.js";

/**
 * What `write` gives. When a commit of it may or may not have been made it is run again, for up to four seconds, and must find
 * what it has written then, or write it. Once in doubt, every other end than success leaves the outcome unknown.
 * @throws {HttpError} `outcome_unknown`, and what `write` throws.
 */
export async function untilCertain<T>(write: () => Promise<T>): Promise<T> {
  const begun = performance.now();
  let doubt: HttpError | null = null;
  for (let count = 1; ; count++) {
    try {
      return await write();
    } catch (error) {
      if (error instanceof StorageError && error.outcome === "unknown") {
        doubt = new HttpError("outcome_unknown", { cause: error });
      } else if (doubt === null) {
        throw error;
      }
      if (!(error instanceof StorageError) || performance.now() - begun > PATIENCE) throw doubt;
      await pause(count);
    }
  }
}

/** A record as a read has found it. */
export interface Seen {
  ref: RecordRef;
  current: RecordState;
}

/**
 * Makes sure that what was read of these records is as safe as what a commit acknowledges. A read may see what is committed on
 * one machine only: after a crash, or when a wait for the standby was cut short. So they are written again as they are, and
 * whatever was committed before is safe when that is. False: another write came in between.
 * @throws {StorageError}
 */
export async function confirm(records: RecordStore, seen: readonly Seen[]): Promise<boolean> {
  const asTheyAre = seen.map(({ ref, current }) => {
    return { ref, expect: current, next: current, keepVersions: MAX_VERSION };
  });
  return (await records.commit(asTheyAre)).applied;
}
