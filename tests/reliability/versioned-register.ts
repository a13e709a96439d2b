/** A record as the model that histories are judged by: one value at a time, each with the next version. */

import type { Model } from "./linearizability.ts";

/** A version and what it is; version 0: there never was one. */
export interface Content {
  version: number;
  /** Another one for each write. */
  content: string;
}

/** What an answer told of the current state; not every answer tells the content. */
interface Seen {
  version: number;
  content?: string;
}

/** A call and what it gave. */
export type RegisterOperation =
  | { kind: "read"; seen: Seen }
  /** A write of `content` over `over`, or over anything; `version`: what it was told to have become, if it was told. */
  | { kind: "write"; content: string; over?: number; version?: number }
  /** A write over a version that was not the current one. */
  | { kind: "conflict"; over: number; seen: Seen }
  /** A deletion that found nothing to delete. */
  | { kind: "nothing to delete" };

export const NEVER: Content = { version: 0, content: "" };

/** What a deletion leaves begins with this. */
export const DELETED = "deleted:";

export const VERSIONED_REGISTER: Model<Content, RegisterOperation> = {
  initial: NEVER,
  nameOf: ({ version, content }) => `${version} ${content}`,
  step(state, operation) {
    switch (operation.kind) {
      case "read":
        return isSeen(state, operation.seen) ? state : null;
      case "conflict":
        return state.version !== operation.over && isSeen(state, operation.seen) ? state : null;
      case "nothing to delete":
        return state.version === 0 || state.content.startsWith(DELETED) ? state : null;
      case "write": {
        const { content, over = state.version, version = over + 1 } = operation;
        return over === state.version && version === over + 1 ? { version, content } : null;
      }
    }
  },
};

function isSeen({ version, content }: Content, seen: Seen): boolean {
  return seen.version === version && (seen.content === undefined || seen.content === content);
}
