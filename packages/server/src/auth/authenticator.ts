/** Turns an Authorization header into a principal; spec/http.md § Authentication. */

import { timingSafeEqual } from "node:crypto";

import { tokenId } from "@tacenda/protocol";
import { LRUCache } from "lru-cache";

import { Gate } from "../http/gate.js";
import type { Directory, KeptToken } from "../storage/directory.js";
import { ROOT, type Principal } from "./principal.js";
import type { RootDigest } from "./root-digest.js";
import { dayOf } from "./token-uses.js";
import { digestToken, hasValidChecksum } from "./tokens.js";

/** How long what the database says of an id is believed without asking again, in milliseconds. */
const CACHE_MILLISECONDS = 1_000;
const CACHED_TOKENS = 10_000;
/** Of ids that no token has, enough for clients that go on with tokens that were deleted. */
const CACHED_STRANGERS = 1_000;
/** How many ids that were never seen before are looked up at once: made-up ones must not take the database from the others. */
const STRANGERS = 2;

/** Compared when there is no such token, so that an unknown id takes as long as a wrong secret. */
const NO_DIGEST = new Uint8Array(32);

interface KnownToken {
  digest: Uint8Array;
  principal: Principal;
  /** The last day on which it is known to have been used. */
  usedOn: number;
  /** When the database was asked, by the process's clock, and after which call of `forget`. */
  askedAt: number;
  generation: number;
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
  /** Tokens that were good when they were last looked up, however long ago. */
  readonly #known = new LRUCache<string, KnownToken>({ max: CACHED_TOKENS });
  /** Ids that no token had a moment ago. */
  readonly #unknown = new LRUCache<string, true>({ max: CACHED_STRANGERS, ttl: CACHE_MILLISECONDS });
  /** Look-ups under way by id, shared by all who ask meanwhile. */
  #asking = new Map<string, { answer: Promise<KnownToken | null>; askedAt: number }>();
  readonly #strangers = new Gate(STRANGERS);
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
   * @throws {HttpError} `overloaded` when too many unknown tokens are being looked up.
   */
  async authenticate(authorization: string | null): Promise<Principal | null> {
    const text = bearerToken(authorization);
    if (text === null) return null;
    const digest = digestToken(text);
    // The root token may be any string, one of a token's form included, so it comes first.
    if (this.#root.mayBe(digest) && (await this.#root.is(digest))) return ROOT;
    const id = tokenId(text);
    if (id === null) return null;
    const known = this.#fresh(id) ?? (hasValidChecksum(text) ? await this.#lookUp(id) : null);
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
    this.#asking = new Map();
    this.#unknown.clear();
  }

  #fresh(id: string): KnownToken | undefined {
    const known = this.#known.get(id);
    const isFresh = known?.generation === this.#generation && performance.now() - known.askedAt < CACHE_MILLISECONDS;
    return isFresh ? known : undefined;
  }

  /** It may be the root token since a moment ago; one that a server makes has a token's form. */
  async #asNewRoot(text: string, digest: Uint8Array): Promise<Principal | null> {
    return hasValidChecksum(text) && (await this.#root.is(digest)) ? ROOT : null;
  }

  async #lookUp(id: string): Promise<KnownToken | null> {
    if (this.#unknown.has(id)) return null;
    const [asking, now] = [this.#asking, performance.now()];
    const underWay = asking.get(id);
    // What was asked longer ago may come back as it was then.
    if (underWay !== undefined && now - underWay.askedAt < CACHE_MILLISECONDS) return await underWay.answer;
    const own = { answer: this.#ask(id), askedAt: now };
    asking.set(id, own);
    try {
      return await own.answer;
    } finally {
      if (asking.get(id) === own) asking.delete(id);
    }
  }

  async #ask(id: string): Promise<KnownToken | null> {
    const leave = this.#known.has(id) ? null : await this.#strangers.enter();
    try {
      const generation = this.#generation;
      const askedAt = performance.now();
      const row = await this.#directory.findToken(id);
      if (row === null) {
        this.#known.delete(id);
        this.#unknown.set(id, true);
        return null;
      }
      const usedOn = row.lastUsedAt ?? -Infinity;
      const known = { digest: row.digest, principal: principalOf(row), usedOn, askedAt, generation };
      this.#known.set(id, known);
      return known;
    } finally {
      leave?.();
    }
  }
}

function bearerToken(authorization: string | null): string | null {
  return authorization === null ? null : (/^Bearer +([\x21-\x7e]+)$/i.exec(authorization)?.[1] ?? null);
}

function principalOf(row: KeptToken): Principal {
  return { type: "token", id: row.id, project: row.project, grants: row.grants, expiresAt: row.expiresAt };
}
