/** Store keys as the database has them: wrapped; spec/envelope.md § Store keys. */

/** What a store key is for. */
export type KeyPurpose = "index" | "data";

/** A version of a master key. */
export interface MasterRef {
  /** Id of the key provider. */
  provider: string;
  masterVersion: number;
}

/** A store key under a master key; spec/envelope.md § Wrapping. */
export interface WrappedKey extends MasterRef {
  purpose: KeyPurpose;
  /** 1, 2, 3 … per store and purpose. */
  version: number;
  /** `active` accepts writes; `retired` only opens what exists. */
  state: "active" | "retired";
  wrapped: Uint8Array;
  /** Milliseconds since the epoch. */
  createdAt: number;
}
