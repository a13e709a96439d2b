/**
 * Tells a wrong secret from an absent key: once per process, store and secret, the server compares a check that both derive;
 * spec/http.md § Secret check. A record that has opened proves the secret better, and makes the check superfluous.
 */

import { concat } from "./crypto/bytes.js";
import { ConfigurationError, WrongSecretError } from "./errors.js";
import type { CallOptions } from "./http/record-api.js";
import type { SecretCheckApi } from "./http/secret-check-api.js";
import { type KeyCache, type KeySource, sourceId } from "./key-cache.js";
import { LruMap } from "./lru-map.js";

/** A secret in use, and those it replaces, if the store's secret is being changed. */
export interface KeySources {
  current: KeySource;
  previous: readonly KeySource[];
}

/** What is known of a secret, and until when: milliseconds of the process's own clock, which nobody sets. */
interface Verdict {
  until: number;
  verdict: Promise<void>;
}

const MAX_STORES = 10_000;
/** Milliseconds for which a verdict that may change is not asked for again. */
const VERDICT_LIFETIME = 60_000;

/** Held by one client, for all its stores. */
export class SecretGuard {
  readonly #api: SecretCheckApi;
  readonly #keys: KeyCache;
  #checks = new AbortController();
  readonly #verdicts = new LruMap<string, Verdict>(MAX_STORES);

  constructor(api: SecretCheckApi, keys: KeyCache) {
    this.#api = api;
    this.#keys = keys;
  }

  /** Starts the check, if there has been none, beside whatever else is to be done. */
  begin(sources: KeySources): void {
    if (this.isProven(sources)) return;
    this.require(sources).catch(() => undefined);
  }

  /**
   * Resolves when the secret is known to be the store's, or nobody has registered one and this token may not.
   *
   * @throws {WrongSecretError} and what the request throws; then the next call asks again.
   */
  require(sources: KeySources): Promise<void> {
    const id = sourceId(sources.current);
    const known = this.#verdicts.get(id);
    if (known !== undefined && performance.now() < known.until) return known.verdict;
    const entry: Verdict = { until: Infinity, verdict: Promise.resolve() };
    entry.verdict = this.#check(sources).then(
      (proven) => {
        if (proven) this.prove(sources);
        else entry.until = performance.now() + VERDICT_LIFETIME;
      },
      (error: unknown) => {
        entry.until = error instanceof WrongSecretError ? performance.now() + VERDICT_LIFETIME : 0;
        throw error;
      },
    );
    this.#verdicts.set(id, entry);
    return entry.verdict;
  }

  /** A record has opened under this secret. */
  prove(sources: KeySources): void {
    if (!this.isProven(sources)) this.#verdicts.set(sourceId(sources.current), PROVEN);
  }

  /** Whether there is nothing left to check. */
  isProven({ current }: KeySources): boolean {
    return this.#verdicts.get(sourceId(current)) === PROVEN;
  }

  /** Lets the server forget the checks of these sources. */
  async forget(sources: readonly KeySource[], call: CallOptions): Promise<void> {
    for (const source of sources) {
      await this.#api.remove(source, concat(await this.#keys.secretCheck(source)), call);
    }
  }

  /** Forgets all verdicts and ends the checks under way. */
  clear(): void {
    this.#verdicts.clear();
    this.#checks.abort(new ConfigurationError("The client was closed while a secret was being checked."));
    this.#checks = new AbortController();
  }

  /** False when nothing is registered. */
  async #check({ current, previous }: KeySources): Promise<boolean> {
    const { signal } = this.#checks;
    const check = await this.#keys.secretCheck(current);
    // A record may have opened meanwhile.
    if (this.isProven({ current, previous })) return true;
    // First as a holder of a previous secret, for mismatches are rate-limited, and many processes may start at once.
    let mayNotRegister = false;
    for (const source of previous) {
      const known = await this.#keys.secretCheck(source);
      const verdict = await this.#api.compare(current, concat(known, check), { signal });
      if (verdict === "matches") return true;
      mayNotRegister ||= verdict === "unregistered";
    }
    const verdict = await this.#api.compare(current, concat(check), { signal });
    if (verdict !== "differs") return verdict === "matches";
    // A reader that knows the store's secret, and waits for a writer to register the new one.
    if (mayNotRegister) return false;
    throw new WrongSecretError(
      "The store's other clients use another secret, or other `iterations` or another `stretch`: check TACENDA_SECRET and " +
        "these options. Nothing was written.",
    );
  }
}

/** The verdict on a secret that is the store's. */
const PROVEN: Verdict = { until: Infinity, verdict: Promise.resolve() };
