/**
 * A key provider as the server uses it: every call ends in bounded time and is counted, and while the provider is
 * unavailable it is asked about once a second and not once per request; spec/envelope.md § Failure.
 */

import { KeyProviderError, type KeyProvider, type MasterKeys, type Wrap, type WrapContext } from "./key-provider.js";

/** A provider bounds its calls itself, and knows better why one failed; this is for one that does not. In milliseconds. */
const TIMEOUT_MILLISECONDS = 10_000;
/** Rotating is a wish that some providers fulfil in their own time. In milliseconds. */
const ROTATE_MILLISECONDS = 60_000;
/** How long a failure is told again without asking, in milliseconds: so soon is a recovery noticed. */
const REST_MILLISECONDS = 1_000;

export type KeyProviderOperation = "wrap" | "unwrap" | "rewrap" | "version" | "health" | "rotate";

/** Counts one call. `kind` is the beginning of the provider's id, for instance `local`. */
export type ObserveKeyProvider = (
  kind: string,
  operation: KeyProviderOperation,
  outcome: "ok" | "unavailable" | "refused" | "failed",
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
  #failed: { at: number; error: KeyProviderError } | null = null;

  constructor(provider: KeyProvider, { observe, timeout, rest }: GuardOptions = {}) {
    this.#provider = provider;
    this.#observe = observe;
    this.#timeout = timeout ?? TIMEOUT_MILLISECONDS;
    this.#rest = rest ?? REST_MILLISECONDS;
    this.id = provider.id;
    this.kind = provider.id.slice(0, Math.max(provider.id.indexOf(":"), 0)) || "other";
    const { masterKeys } = provider;
    if (masterKeys) this.masterKeys = this.#guard(masterKeys);
  }

  currentVersion(): Promise<number> {
    return this.#call("version", () => this.#provider.currentVersion());
  }

  wrap(key: Uint8Array, context: WrapContext): Promise<Wrap> {
    return this.#call("wrap", () => this.#provider.wrap(key, context));
  }

  unwrap(wrap: Wrap, context: WrapContext): Promise<Uint8Array> {
    return this.#call("unwrap", () => this.#provider.unwrap(wrap, context));
  }

  async rewrap(wrap: Wrap, context: WrapContext): Promise<Wrap> {
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

  /** Method by method: those of a class are not among its object's own properties, and a copy of these lacks them. */
  #guard(masterKeys: MasterKeys): MasterKeys {
    const { scheduled, instead } = masterKeys;
    const retire = masterKeys.retire?.bind(masterKeys);
    const reinstate = masterKeys.reinstate?.bind(masterKeys);
    const destroy = masterKeys.destroy?.bind(masterKeys);
    return {
      scheduled,
      ...(instead !== undefined && { instead }),
      versions: () => masterKeys.versions(),
      rotate: () => this.#call("rotate", () => masterKeys.rotate(), ROTATE_MILLISECONDS),
      ...(retire && { retire }),
      ...(reinstate && { reinstate }),
      ...(destroy && { destroy }),
    };
  }

  /** @throws {KeyProviderError} whatever the provider threw. */
  async #call<T>(operation: KeyProviderOperation, work: () => Promise<T>, timeout = this.#timeout): Promise<T> {
    const started = performance.now();
    if (this.#failed !== null && started - this.#failed.at < this.#rest) throw this.#failed.error;
    const observe = (outcome: "ok" | "unavailable" | "refused" | "failed") =>
      this.#observe?.(this.kind, operation, outcome, (performance.now() - started) / 1_000);
    try {
      const result = await withTimeout(work(), timeout, this.id);
      this.#failed = null;
      observe("ok");
      return result;
    } catch (error) {
      // A foreign error may quote what it failed on.
      const fault =
        error instanceof KeyProviderError
          ? error
          : new KeyProviderError("unavailable", `The key provider ${this.id} failed. The server's log has the cause.`, {
              cause: error,
            });
      observe(error instanceof KeyProviderError ? fault.fault : "failed");
      if (fault.fault === "unavailable") this.#failed = { at: performance.now(), error: fault };
      throw fault;
    }
  }
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
