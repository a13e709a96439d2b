/** The token for a transit engine: read again when its file changes, renewed before it ends; spec/envelope.md § Transit. */

import { readFile, stat } from "node:fs/promises";

import { z } from "zod";

import { KeyProviderError } from "../key-provider.js";
import { TransitRefusal, type TransitHttp } from "./transit-http.js";
import { isToken } from "./transit-uri.js";

const seconds = z.int().min(0);
const lookupSchema = z.object({
  data: z.object({
    ttl: seconds,
    creation_ttl: seconds.optional(),
    renewable: z.boolean().optional(),
    expire_time: z.string().nullish(),
  }),
});
const renewSchema = z.object({ auth: z.object({ lease_duration: seconds, renewable: z.boolean() }) });

/** Milliseconds. `endsAt` is infinite for a token that does not end. */
interface Life {
  endsAt: number;
  whole: number;
  renewable: boolean;
}

const SECOND = 1000;
const DAY = 86_400 * SECOND;
const RETRY = 30 * SECOND;
/** An end nearer than this, and than a tenth of the token's life, is told by `check`. */
const LAST_MINUTES = 600 * SECOND;

export class TransitToken {
  readonly #http: TransitHttp;
  readonly #read: () => Promise<string>;
  #token: string | null = null;
  #life: Life | null = null;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** `read` gives the token as it is now. */
  constructor(http: TransitHttp, read: () => Promise<string>) {
    this.#http = http;
    this.#read = read;
  }

  /** The token as it is now. From its first use on it is kept alive. @throws {KeyProviderError} when there is none. */
  async current(): Promise<string> {
    const token = await this.#read();
    if (token !== this.#token) {
      this.#token = token;
      this.#life = null;
      void this.#tend(token);
    }
    return token;
  }

  /**
   * @throws {KeyProviderError} `unavailable` when the token is about to end and is not renewed even now.
   */
  async check(): Promise<void> {
    const token = await this.current();
    if (this.#left() > 0) return;
    // What is known may be old: somebody else may have renewed it, or this process has slept.
    await this.#refresh(token).catch(() => undefined);
    if (this.#left() > 0 || this.#life === null) return;
    const rest = Math.max(0, Math.round((this.#life.endsAt - Date.now()) / SECOND));
    throw new KeyProviderError(
      "unavailable",
      `The token for the transit key provider ends in ${rest} s and cannot be renewed any more: replace it, ` +
        "or let an agent do so (see docs/key-providers/transit.md).",
    );
  }

  /** Whether the server still knows the token; null when it does not say. */
  async isKnown(): Promise<boolean | null> {
    try {
      await this.#lookUp(await this.current());
      return true;
    } catch (error) {
      return error instanceof TransitRefusal && error.status === 403 ? false : null;
    }
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /** Milliseconds until the end is worth a word. */
  #left(): number {
    if (this.#life === null) return Infinity;
    const { endsAt, whole } = this.#life;
    return endsAt - Math.min(whole / 10, LAST_MINUTES) - Date.now();
  }

  /** Looks the token up, or renews it, and comes back when a third of its time is left. */
  async #tend(token: string): Promise<void> {
    let part = 2 / 3;
    try {
      const life = await this.#refresh(token);
      if (life === null || life.endsAt === Infinity) return;
    } catch {
      // Not allowed to look itself up, or the server is away. Calls tell what is wrong; this only tries again.
      part = 1 / 3;
    }
    const left = this.#life === null ? 0 : this.#life.endsAt - Date.now();
    // One that has ended is looked at seldom: only its replacement helps.
    const wait = left > 0 ? left * part : RETRY;
    if (this.#isClosed || token !== this.#token) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#tend(token), Math.min(Math.max(wait, SECOND / 2), DAY));
    this.#timer.unref();
  }

  /** What is known of the token from now on; null when it is another one by now. */
  async #refresh(token: string): Promise<Life | null> {
    return this.#life?.renewable ? await this.#renew(token, this.#life) : await this.#lookUp(token);
  }

  /** @throws {TransitRefusal | KeyProviderError} */
  async #lookUp(token: string): Promise<Life | null> {
    const answer = await this.#http.send(token, { method: "GET", path: "auth/token/lookup-self" });
    const parsed = lookupSchema.safeParse(answer);
    if (!parsed.success) throw this.#http.malformed();
    const { ttl, creation_ttl, renewable, expire_time } = parsed.data.data;
    const isEndless = ttl === 0 && (expire_time === undefined || expire_time === null);
    const endsAt = isEndless ? Infinity : Date.now() + ttl * SECOND;
    const life = { endsAt, whole: Math.max(creation_ttl ?? 0, ttl) * SECOND, renewable: renewable ?? false };
    return this.#keep(token, life);
  }

  async #renew(token: string, before: Life): Promise<Life | null> {
    try {
      const answer = await this.#http.send(token, { method: "POST", path: "auth/token/renew-self", body: {} });
      const parsed = renewSchema.safeParse(answer);
      if (!parsed.success) throw this.#http.malformed();
      const { lease_duration, renewable } = parsed.data.auth;
      // At its maximum a token is renewed as politely as ever, and lives no longer.
      return this.#keep(token, { endsAt: Date.now() + lease_duration * SECOND, whole: before.whole, renewable });
    } catch (error) {
      if (!(error instanceof TransitRefusal)) throw error;
      return this.#keep(token, { ...before, renewable: false });
    }
  }

  #keep(token: string, life: Life): Life | null {
    if (token !== this.#token) return null;
    this.#life = life;
    return life;
  }
}

/** Reads a token from `file`, again when it has changed. While it cannot be read, what was read before is used. */
export function tokenFileReader(file: string): () => Promise<string> {
  let stamp: string | null = null;
  let token: string | null = null;
  return async () => {
    try {
      const { ino, size, mtimeNs } = await stat(file, { bigint: true });
      const now = `${ino} ${size} ${mtimeNs}`;
      if (token !== null && now === stamp) return token;
      const text = (await readFile(file, "utf8")).trim();
      if (!isToken(text)) throw new Error("no token");
      stamp = now;
      token = text;
    } catch {
      // An agent may be about to write it.
      if (token === null) {
        throw new KeyProviderError(
          "unavailable",
          `The token file ${file} of the transit key provider cannot be read or holds no token: ` +
            "check its path and mode, and that the agent which writes it runs.",
        );
      }
    }
    return token;
  };
}
