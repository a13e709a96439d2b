/** The client: one per server and project, shared by all its stores. */

import { KeyCache } from "./key-cache.js";
import { BatchApi } from "./http/batch-api.js";
import { JsonApi } from "./http/json-api.js";
import { RecordApi } from "./http/record-api.js";
import { SecretCheckApi } from "./http/secret-check-api.js";
import { Transport } from "./http/transport.js";
import { Marks, type VersionMemory } from "./marks.js";
import { checkId, checkInteger } from "./checks.js";
import {
  type SecretOptions,
  type StoreOptions,
  type TacendaOptions,
  environment,
  projectOf,
  secretsOf,
  stretchOf,
  transportOptions,
} from "./options.js";
import { SecretGuard } from "./secret-guard.js";
import { StoreRecords } from "./store-records.js";
import { Store } from "./store.js";
import { namingPattern } from "./value.js";
import { ValueCache } from "./value-cache.js";
import { VerifiedRecords } from "./verified-records.js";

/**
 * A client of a Tacenda server.
 *
 * @example
 * const tacenda = new Tacenda({ url, token });
 * const store = tacenda.getStore("user-tokens", { secret });
 * await store.setValue("github:42", accessToken);
 * await store.getValue("github:42");
 */
export class Tacenda {
  /** The id of the project. */
  readonly project: string;
  readonly #keys: KeyCache;
  readonly #marks: VersionMemory;
  /** Only of stores that somebody still holds. */
  readonly #caches = new Set<WeakRef<ValueCache>>();
  readonly #recordApi: RecordApi;
  readonly #transport: Transport;
  readonly #guard: SecretGuard;
  readonly #secretOptions: SecretOptions;
  readonly #timeout: number;

  /** @throws {ConfigurationError} when the URL or the token is missing, or an option makes no sense. */
  constructor(options: TacendaOptions = {}) {
    const connection = transportOptions(options);
    this.#transport = new Transport(connection);
    this.#timeout = connection.timeout;
    this.project = projectOf(options);
    this.#marks = options.versionMemory ?? new Marks();
    this.#recordApi = new RecordApi(this.#transport);
    this.#keys = new KeyCache(
      checkInteger("derivedKeyCacheSize", options.derivedKeyCacheSize ?? 10_000, 0, 10_000_000),
      checkInteger("maxConcurrentDerivations", options.maxConcurrentDerivations ?? 3, 1, 1_000),
    );
    this.#guard = new SecretGuard(new SecretCheckApi(this.#transport), this.#keys);
    const { secret, iterations, stretch, dangerouslyAllowWeakSecret } = options;
    this.#secretOptions = { secret, iterations, stretch, dangerouslyAllowWeakSecret };
  }

  /**
   * A store of the project. Asks the server nothing: that the store exists shows at the first call, or with `verify`.
   *
   * @throws {ConfigurationError} when the id or an option makes no sense.
   * @throws {WeakSecretError} when the secret is too weak or mistyped.
   */
  getStore(id: string, options: StoreOptions = {}): Store {
    const client = this.#secretOptions;
    const secretOptions: SecretOptions = {
      iterations: options.iterations ?? client.iterations,
      stretch: options.stretch ?? client.stretch,
      dangerouslyAllowWeakSecret: options.dangerouslyAllowWeakSecret ?? client.dangerouslyAllowWeakSecret,
    };
    const scope = { project: this.project, storeId: checkId("store", id) };
    const source = { ...scope, ...stretchOf(secretOptions) };
    const cache = options.cache && new ValueCache(options.cache);
    if (cache !== undefined) this.#keepTrackOf(cache);
    const batches = new BatchApi(this.#transport, scope);
    const marks = options.versionMemory ?? this.#marks;
    const records = new VerifiedRecords(this.#recordApi, batches, marks, cache, scope);
    return new Store({
      source,
      secrets: secretsOf(
        [options.secret, client.secret, environment("TACENDA_SECRET")],
        source.iterations,
        secretOptions,
      ),
      secretOptions,
      naming: namingPattern(options.naming),
      timeout: this.#timeout,
      records: new StoreRecords(records, this.#guard, this.#keys),
      recordApi: this.#recordApi,
      jsonApi: new JsonApi(this.#transport),
    });
  }

  /** Remembers a cache for `close`, and forgets those whose stores are gone. */
  #keepTrackOf(cache: ValueCache): void {
    for (const known of this.#caches) if (known.deref() === undefined) this.#caches.delete(known);
    this.#caches.add(new WeakRef(cache));
  }

  /** Forgets every derived key and cached value. The client stays usable; it derives anew. */
  close(): void {
    this.#keys.clear();
    this.#guard.clear();
    for (const cache of this.#caches) cache.deref()?.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  /** Shows the project's name and nothing else. */
  toJSON(): { project: string } {
    return { project: this.project };
  }
}
