/**
 * A key provider as the server uses it: every call ends in bounded time and is counted, and while the provider is
 * unavailable one call in a second tries it, and the others are told at once; spec/envelope.md § Failure.
 */

import { setTimeout as sleep } from "node:timers/promises";

import { KeyProviderError, type KeyProvider, type MasterKeys, type Wrap, type WrapContext } from "./key-provider.js";
import { refusedWrap } from "./providers/wrap-format.js";

/** A provider bounds its calls itself, and knows better why one failed; this is for one that does not. In milliseconds. */
const TIMEOUT_MILLISECONDS = 10_000;
/** Rotating is a wish that some providers fulfil in their own time. In milliseconds. */
const ROTATE_MILLISECONDS = 60_000;
/** How long others wait for the call that finds out whether the provider is back, in milliseconds. */
const PROBE_MILLISECONDS = 500;
/** How long a failure is told again without asking, in milliseconds: so soon is a recovery noticed. */
const REST_MILLISECONDS = 1_000;

/** Of store keys and of master keys. */
const MAX_KEY_VERSION = 2 ** 32 - 1;

export type KeyProviderOperation = "wrap" | "unwrap" | "rewrap" | "version" | "health" | keyof MasterKeys;

type Outcome = "ok" | "unavailable" | "refused" | "failed";

/** Counts one call. `kind` is the beginning of the provider's id, for instance `local`. */
export type ObserveKeyProvider = (
  kind: string,
  operation: KeyProviderOperation,
  outcome: Outcome,
  seconds: number,
) => void;

export interface GuardOptions {
  observe?: ObserveKeyProvider | undefined;
  /** Milliseconds that a call may take. */
  timeout?: number;
  /** Milliseconds for which a failure is told again. */
  rest?: number;
}

/** The same provider, guarded. */
export class GuardedKeyProvider implements KeyProvider {
  readonly id: string;
  readonly kind: string;
  readonly masterKeys?: MasterKeys;
  readonly #provider: KeyProvider;
  readonly #observe: ObserveKeyProvider | undefined;
  readonly #timeout: number;
  readonly #rest: number;
  /** The failure that is told again, and since when. */
  #failed: { error: KeyProviderError; at: number } | null = null;
  /** The one call that finds out whether that is over: whether it is. */
  #probe: Promise<boolean> | null = null;

  constructor(provider: KeyProvider, { observe, timeout, rest }: GuardOptions = {}) {
    this.#provider = provider;
    this.#observe = observe;
    this.#timeout = timeout ?? TIMEOUT_MILLISECONDS;
    this.#rest = rest ?? REST_MILLISECONDS;
    this.id = provider.id;
    this.kind = provider.id.slice(0, Math.max(provider.id.indexOf(":"), 0)) || "other";
    if (provider.masterKeys) this.masterKeys = this.#guardMasterKeys(provider.masterKeys);
  }

  currentVersion(): Promise<number> {
    return this.#call("version", () => this.#provider.currentVersion());
  }

  wrap(key: Uint8Array, context: WrapContext): Promise<Wrap> {
    return this.#call("wrap", () => this.#provider.wrap(key, context));
  }

  async unwrap(wrap: Wrap, context: WrapContext): Promise<Uint8Array> {
    this.#refuseImpossible(wrap, context);
    return await this.#call("unwrap", () => this.#provider.unwrap(wrap, context));
  }

  async rewrap(wrap: Wrap, context: WrapContext): Promise<Wrap> {
    this.#refuseImpossible(wrap, context);
    const rewrap = this.#provider.rewrap?.bind(this.#provider);
    if (rewrap) return await this.#call("rewrap", () => rewrap(wrap, context));
    const key = await this.unwrap(wrap, context);
    try {
      return await this.wrap(key, context);
    } finally {
      key.fill(0);
    }
  }

  health(): Promise<void> {
    return this.#call("health", () => this.#provider.health());
  }

  close(): Promise<void> {
    return this.#provider.close();
  }

  /**
   * One by one, since a provider's own may be methods of a class. They are bounded and counted like the others; their failures
   * say nothing of whether the provider wraps and unwraps, and neither do its failures of them.
   */
  #guardMasterKeys(masterKeys: MasterKeys): MasterKeys {
    const change = (operation: "retire" | "reinstate" | "destroy") => {
      const work = masterKeys[operation]?.bind(masterKeys);
      return work && { [operation]: (version: number) => this.#bounded(operation, () => work(version), this.#timeout) };
    };
    return {
      scheduled: masterKeys.scheduled,
      ...(masterKeys.instead !== undefined && { instead: masterKeys.instead }),
      versions: () => this.#bounded("versions", () => masterKeys.versions(), this.#timeout),
      rotate: () => this.#bounded("rotate", () => masterKeys.rotate(), ROTATE_MILLISECONDS),
      ...change("retire"),
      ...change("reinstate"),
      ...change("destroy"),
    };
  }

  /** A damaged row may hold any number. One that no key can have is no reason to ask, nor to take the provider for failed. */
  #refuseImpossible({ masterVersion }: Wrap, { version }: WrapContext): void {
    if (!isKeyVersion(masterVersion) || !isKeyVersion(version)) throw refusedWrap(this.id);
  }

  /** @throws {KeyProviderError} whatever the provider threw, or what it threw a moment ago. */
  async #call<T>(operation: KeyProviderOperation, work: () => Promise<T>): Promise<T> {
    const failed = this.#failed;
    if (failed === null) return await this.#try(operation, work);
    if (performance.now() - failed.at < this.#rest) throw failed.error;
    if (this.#probe === null) {
      const attempt = this.#try(operation, work);
      this.#probe = attempt
        .then(
          () => true,
          () => false,
        )
        .finally(() => (this.#probe = null));
      return await attempt;
    }
    if (await Promise.race([this.#probe, sleep(PROBE_MILLISECONDS, false, { ref: false })])) {
      return await this.#try(operation, work);
    }
    throw failed.error;
  }

  async #try<T>(operation: KeyProviderOperation, work: () => Promise<T>): Promise<T> {
    try {
      const result = await this.#bounded(operation, work, this.#timeout);
      this.#failed = null;
      return result;
    } catch (error) {
      const isAway = error instanceof KeyProviderError && error.fault === "unavailable";
      this.#failed = isAway ? { error, at: performance.now() } : null;
      throw error;
    }
  }

  async #bounded<T>(operation: KeyProviderOperation, work: () => Promise<T>, timeout: number): Promise<T> {
    const started = performance.now();
    const observe = (outcome: Outcome) =>
      this.#observe?.(this.kind, operation, outcome, (performance.now() - started) / 1_000);
    try {
      const result = await withTimeout(work(), timeout, this.id);
      observe("ok");
      return result;
    } catch (error) {
      if (error instanceof KeyProviderError) {
        observe(error.fault);
        throw error;
      }
      observe("failed");
      // A foreign error may quote what it failed on.
      const message = `The key provider ${this.id} failed. The server's log has the cause.`;
      throw new KeyProviderError("unavailable", message, { cause: error });
    }
  }
}

function isKeyVersion(version: number): boolean {
  return Number.isInteger(version) && version >= 1 && version <= MAX_KEY_VERSION;
}

async function withTimeout<T>(work: Promise<T>, milliseconds: number, id: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      const message = `The key provider ${id} did not answer within ${milliseconds} ms. Check it and the network to it.`;
      reject(new KeyProviderError("unavailable", message));
    }, milliseconds);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
