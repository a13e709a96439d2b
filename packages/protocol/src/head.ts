/** The plain head of a sealed record, all that a server may read of it; spec/record.md § Head. */

import { HEAD_BYTES, MAX_TIME } from "./limits.js";

/** Format and suite this version of the protocol knows. */
export const RECORD_FORMAT = 1;
export const RECORD_SUITE = 1;

/** What a version of a key is. */
export const RecordState = {
  /** Holds a value. */
  value: 0,
  /** Deleted: a tombstone. */
  tombstone: 1,
  /** The key now lives under another secret. */
  moved: 2,
} as const;
export type RecordState = (typeof RecordState)[keyof typeof RecordState];

/** The fields of a head. The salt and the commitment are opaque to the server. */
export interface RecordHead {
  state: RecordState;
  /** Milliseconds since the epoch; 0 means never. */
  expiresAt: number;
  /** 32 bytes. */
  salt: Uint8Array;
  /** 32 bytes. */
  commitment: Uint8Array;
}

/** Why bytes are not a head. */
export type HeadFault = "truncated" | "unsupported" | "malformed";

/** Reads the head of `record`, which may be a whole record or a head alone. */
export function parseHead(record: Uint8Array): RecordHead | HeadFault {
  if (record.length < HEAD_BYTES) return "truncated";
  if (record[0] !== RECORD_FORMAT || record[1] !== RECORD_SUITE) return "unsupported";
  const state = record[2];
  const expiresAt = new DataView(record.buffer, record.byteOffset, HEAD_BYTES).getBigUint64(3);
  if ((state !== 0 && state !== 1 && state !== 2) || expiresAt > BigInt(MAX_TIME)) return "malformed";
  return {
    state,
    expiresAt: Number(expiresAt),
    salt: record.subarray(11, 43),
    commitment: record.subarray(43, HEAD_BYTES),
  };
}
