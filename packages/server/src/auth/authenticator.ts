/** Turns an Authorization header into a principal; spec/http.md § Authentication. */

import { timingSafeEqual } from "node:crypto";

import { tokenId } from "@tacenda/protocol";
import { LRUCache } from "lru-cache";

import type { Directory, KeptToken } from "../storage/directory.js";
import { ROOT, type Principal } from "./principal.js";
import type { RootDigest } from "./root-digest.js";
import { dayOf } from "./token-uses.js";
import { digestToken, hasValidChecksum } from "./tokens.js";

/** How long a token found in the database is believed without asking again, in milliseconds. */
const CACHE_MILLISECONDS = 1_000;
const CACHED_TOKENS = 10_000;

/** Compared when there is no such token, so that an unknown id takes as long as a wrong secret. */
const NO_DIGEST = new Uint8Array(32);

interface KnownToken {
  digest: Uint8Array;
  principal: Principal;
  /** The last day on which it is known to have been used. */
  usedOn: number;
}

/**
 * Checks bearer tokens. A token deleted through this process stops working at once, one deleted through another process
 * within a second, and so does a root token that was replaced: requests that begin later are refused, those under way come to
 * their end.
 */
export class Authenticator {
  readonly #directory: Pick<Directory, "findToken">;
  readonly #root: RootDigest;
  readonly #now: () => number;
  readonly #noteUse: (id: string, day: number) => void;
  readonly #known = new LRUCache<string, KnownToken>({ max: CACHED_TOKENS, ttl: CACHE_MILLISECONDS });
  /** Counts `forget` calls, so that a look-up begun before one does not put a deleted token back. */
  #generation = 0;

  /** `now`: milliseconds since the epoch. `noteUse`: told of a token's first use on a day, and perhaps of others. */
  constructor(
    directory: Pick<Directory, "findToken">,
    root: RootDigest,
    now: () => number,
    noteUse: (id: string, day: number) => void = () => undefined,
  ) {
    this.#directory = directory;
    this.#root = root;
    this.#now = now;
    this.#noteUse = noteUse;
  }

  /**
   * The principal whose token `authorization` holds, or null when it is missing, malformed, unknown or expired.
   * @throws {StorageError} when the database fails.
   */
  async authenticate(authorization: string | null): Promise<Principal | null> {
    const text = bearerToken(authorization);
    if (text === null) return null;
    const digest = digestToken(text);
    // The root token may be any string, one of a token's form included, so it comes first.
    if (this.#root.mayBe(digest) && (await this.#root.is(digest))) return ROOT;
    const id = tokenId(text);
    if (id === null) return null;
    const known = this.#known.get(id) ?? (hasValidChecksum(text) ? await this.#lookUp(id) : null);
    const matches = timingSafeEqual(digest, known?.digest ?? NO_DIGEST);
    if (known === null || !matches) return await this.#asNewRoot(text, digest);
    const { expiresAt } = known.principal;
    const now = this.#now();
    if (expiresAt !== null && expiresAt <= now) return null;
    const day = dayOf(now);
    if (day > known.usedOn) {
      known.usedOn = day;
      this.#noteUse(id, day);
    }
    return known.principal;
  }

  /** Asks the database again for every token: call it after tokens were deleted. */
  forget(): void {
    this.#generation++;
    this.#known.clear();
  }

  /** It may be the root token since a moment ago; one that a server makes has a token's form. */
  async #asNewRoot(text: string, digest: Uint8Array): Promise<Principal | null> {
    return hasValidChecksum(text) && (await this.#root.is(digest)) ? ROOT : null;
  }

  async #lookUp(id: string): Promise<KnownToken | null> {
    const generation = this.#generation;
    // Not from when the answer comes: it may be long under way.
    const start = performance.now();
    const row = await this.#directory.findToken(id);
    if (row === null) return null;
    const known = { digest: row.digest, principal: principalOf(row), usedOn: row.lastUsedAt ?? -Infinity };
    if (generation === this.#generation) this.#known.set(id, known, { start });
    return known;
  }
}

function bearerToken(authorization: string | null): string | null {
  return authorization === null ? null : (/^Bearer +([\x21-\x7e]+)$/i.exec(authorization)?.[1] ?? null);
}

function principalOf(row: KeptToken): Principal {
  return { type: "token", id: row.id, project: row.project, grants: row.grants, expiresAt: row.expiresAt };
}
