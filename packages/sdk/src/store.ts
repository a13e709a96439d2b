/** A named collection of sealed values: the calls that are the product. */

import { MAX_BATCH_VALUES, MAX_VERSION, type Grant, type RecordAttributes } from "@tacenda/protocol";

import { checkInteger } from "./checks.js";
import { utf8 } from "./crypto/bytes.js";
import type { VerifiedHead } from "./crypto/record.js";
import { type Entry, entryOf, refuseLive, refuseMoved, textOf } from "./entry.js";
import {
  ConfigurationError,
  ConflictError,
  PermissionDeniedError,
  TacendaError,
  VersionNotFoundError,
} from "./errors.js";
import type { JsonApi } from "./http/json-api.js";
import type { CallOptions, RecordApi } from "./http/record-api.js";
import type { KeySource } from "./key-cache.js";
import { type SecretOptions, type StoreCallOptions, secretsOf } from "./options.js";
import { inRounds } from "./rounds.js";
import type {
  BulkReadOptions,
  DeleteOptions,
  KeptVersion,
  MigrationProgress,
  ReadOptions,
  SetOptions,
  VersionCondition,
  WriteOptions,
} from "./store-options.js";
import type { KeySources } from "./secret-guard.js";
import type { Secrets } from "./secret.js";
import type { KeySet, StoreRecords } from "./store-records.js";
import { type Draft, checkKey, draftOf } from "./value.js";
import { headOf } from "./verified-records.js";

/** What a store is made of. */
export interface StoreParts {
  records: StoreRecords;
  recordApi: RecordApi;
  jsonApi: JsonApi;
  /** All but the secret. */
  source: Omit<KeySource, "secret">;
  secrets: Secrets | undefined;
  secretOptions: SecretOptions;
  /** What keys must match besides the format's own rules. */
  naming: RegExp | undefined;
  /** Milliseconds for a call, unless it says otherwise. */
  timeout: number;
}

/** Made by `Tacenda.getStore`. */
export class Store {
  /** The store's id. */
  readonly id: string;
  /** The id of its project. */
  readonly project: string;
  readonly #parts: StoreParts;

  constructor(parts: StoreParts) {
    this.id = parts.source.storeId;
    this.project = parts.source.project;
    this.#parts = parts;
  }

  /**
   * The text stored under `key`, or null when there is none: never set, deleted or expired.
   *
   * @throws {NotTextError} when bytes were stored; use `getBytes`.
   * @throws {RecordOpenError} when what the server has does not open with this secret.
   * @throws {RollbackError} when the server shows an older state than this client has seen.
   * @throws {StoreNotFoundError} when there is no such store.
   * @example
   * const token = await store.getValue("github:42");
   */
  async getValue(key: string, options: ReadOptions = {}): Promise<string | null> {
    return textOf(await this.getEntry(key, options));
  }

  /** The bytes stored under `key` (of a text, its UTF-8), or null when there are none. Throws as `getValue` does. */
  async getBytes(key: string, options: ReadOptions = {}): Promise<Uint8Array | null> {
    const entry = await this.getEntry(key, options);
    const value = entry?.value ?? null;
    return typeof value === "string" ? utf8(value) : value;
  }

  /**
   * The value with all that is known of it, or null when the server says that the key never existed. A deleted or
   * expired key gives an entry without a value, and a holder of the secret has proved it. Throws as `getValue` does.
   */
  async getEntry(key: string, options: ReadOptions = {}): Promise<Entry | null> {
    const { version } = options;
    if (version !== undefined) checkInteger("version", version, 1, MAX_VERSION);
    const set = await this.#open(key, options);
    const call = this.#budget(options);
    const { records } = this.#parts;
    return entryOf(
      version === undefined ? (await records.read(set, call)).found : await records.readVersion(set, version, call),
    );
  }

  /**
   * Stores a text or bytes under `key`, as its next version, and gives that version. Overwrites what is there, unless
   * `ifVersion` says otherwise. When the promise resolves, the value is on the server's disk.
   *
   * @throws {ConflictError} with `ifVersion`, when another version is current.
   * @throws {ValueTooLargeError} above 1,048,576 bytes.
   * @throws {OutcomeUnknownError} when the write was sent again and nobody can tell whether it happened.
   * @example
   * await store.setValue("github:42", accessToken, { metadata: { scope: "repo" } });
   */
  async setValue(key: string, value: string | Uint8Array, options: SetOptions = {}): Promise<{ version: number }> {
    checkCondition(options);
    const draft = draftOf(value, options);
    const set = await this.#open(key, options);
    const call = this.#budget(options);
    const { records } = this.#parts;
    if (options.ifVersion === undefined) {
      return await this.#writeAfter(set, await records.lastSeen(set.current), draft, call);
    }
    return await this.#writeOver(set, options.ifVersion, draft, call);
  }

  /**
   * Many texts at once, say at start-up, as a Map in the order asked; absent keys are null. Derivations run three at once, and
   * 100 keys share a request. With `onError: "collect"` what fails is an error in the Map instead of the call's.
   *
   * @example
   * const values = await store.getValues(["DATABASE_URL", "STRIPE_KEY"]);
   */
  async getValues(
    keys: Iterable<string>,
    options?: BulkReadOptions & { onError?: "throw" },
  ): Promise<Map<string, string | null>>;
  async getValues(
    keys: Iterable<string>,
    options: BulkReadOptions & { onError: "collect" },
  ): Promise<Map<string, string | TacendaError | null>>;
  async getValues(
    keys: Iterable<string>,
    options: BulkReadOptions = {},
  ): Promise<Map<string, string | TacendaError | null>> {
    return await this.#readMany(keys, options, textOf);
  }

  /** Many entries at once, as `getValues` reads them. */
  async getEntries(
    keys: Iterable<string>,
    options?: BulkReadOptions & { onError?: "throw" },
  ): Promise<Map<string, Entry | null>>;
  async getEntries(
    keys: Iterable<string>,
    options: BulkReadOptions & { onError: "collect" },
  ): Promise<Map<string, Entry | TacendaError | null>>;
  async getEntries(
    keys: Iterable<string>,
    options: BulkReadOptions = {},
  ): Promise<Map<string, Entry | TacendaError | null>> {
    return await this.#readMany(keys, options, (entry) => entry);
  }

  /**
   * Stores up to 100 values, all or none, each as its key's next version. Overwrites what is there. The metadata and expiry
   * given are each value's.
   *
   * @throws {ValueTooLargeError} when they are too large together (about 6 MB); and what `setValue` throws.
   * @example
   * await store.setValues({ DATABASE_URL: "postgres://…", STRIPE_KEY: "sk_…" });
   */
  async setValues(
    values: Readonly<Record<string, string | Uint8Array>> | Iterable<readonly [string, string | Uint8Array]>,
    options: WriteOptions = {},
  ): Promise<Map<string, { version: number }>> {
    const entries = new Map(Symbol.iterator in values ? values : Object.entries(values));
    checkInteger("number of values", entries.size, 0, MAX_BATCH_VALUES);
    if (entries.size === 0) return new Map();
    const drafts = [...entries].map(([key, value]) => ({ key, draft: draftOf(value, options) }));
    const writes = await Promise.all(
      drafts.map(async ({ key, draft }) => ({ set: await this.#open(key, options), draft })),
    );
    const versions = await this.#parts.records.writeMany(writes, this.#budget(options), refuseMoved);
    return new Map(drafts.map(({ key }, index) => [key, { version: versions[index] ?? 0 }]));
  }

  /**
   * Stores a value only where there is none: the key never existed, or was provably deleted or has expired.
   *
   * @throws {AlreadyExistsError} when there is a value.
   */
  async createValue(key: string, value: string | Uint8Array, options: WriteOptions = {}): Promise<{ version: number }> {
    const draft = draftOf(value, options);
    const set = await this.#open(key, options);
    const call = this.#budget(options);
    const { records } = this.#parts;
    // A key seen before is read first: to write over its last version could overwrite a value. So is one that may still be
    // under another secret.
    if (set.sources.previous.length === 0 && (await records.lastSeen(set.current)) === 0) {
      return await this.#writeAfter(set, 0, draft, call, refuseLive);
    }
    const { found, keys } = await records.read(set, call, { forWrite: true });
    const head = headOf(found);
    if (head !== null) (found?.gone === true ? refuseMoved : refuseLive)(head);
    return await this.#writeAfter(set, keys === set.current ? (head?.version ?? 0) : 0, draft, call, refuseLive);
  }

  /**
   * Deletes a value: writes a tombstone as the next version. Earlier versions stay, and `restoreVersion` brings them back.
   * Null when there was no value to delete. Needs the permissions read, write and delete.
   *
   * @throws {RecordProtectedError} when the entry is protected.
   * @throws {ConflictError} with `ifVersion`, when another version is current.
   */
  async deleteValue(key: string, options: DeleteOptions = {}): Promise<{ version: number } | null> {
    return await this.#remove(key, options, false);
  }

  /**
   * Deletes a value and all its earlier versions in one commit; nobody can bring them back. Also what was deleted or has
   * expired can be destroyed. Null when the key never existed. Throws as `deleteValue` does.
   */
  async destroyValue(key: string, options: DeleteOptions = {}): Promise<{ version: number } | null> {
    return await this.#remove(key, options, true);
  }

  /** The versions that the server keeps of a key, newest first; empty when it says that the key never existed. */
  async listVersions(key: string, options: StoreCallOptions = {}): Promise<KeptVersion[]> {
    const versions = await this.#parts.records.listVersions(await this.#open(key, options), this.#budget(options));
    return versions
      .map(({ version, createdAt, size }) => ({ version, claimed: { createdAt: new Date(createdAt), size } }))
      .sort((a, b) => b.version - a.version);
  }

  /**
   * Makes an earlier version current again: writes its value, metadata and expiry as the next version. Undoes a deletion.
   *
   * @throws {VersionNotFoundError} when the version is not kept or holds no value.
   * @throws {ConflictError} with `ifVersion`, when another version is current.
   */
  async restoreVersion(key: string, version: number, options: DeleteOptions = {}): Promise<{ version: number }> {
    const entry = await this.getEntry(key, { ...options, version });
    if (entry?.state !== "live") {
      throw new VersionNotFoundError(`Version ${version} is not kept, or holds no value: see listVersions.`);
    }
    const { value, metadata, expiresAt } = entry;
    return await this.setValue(key, value, { ...options, metadata, expiresAt: expiresAt ?? undefined });
  }

  /**
   * Protects an entry against deletion and destruction, or lifts that (which needs the permission manage). The server
   * enforces it. False when the key never existed.
   */
  async setProtected(key: string, isProtected: boolean, options: StoreCallOptions = {}): Promise<boolean> {
    return await this.#setAttributes(key, { protected: isProtected }, options);
  }

  /** Makes an entry inactive, so that the server refuses to read it, or active again. False when the key never existed. */
  async setActive(key: string, isActive: boolean, options: StoreCallOptions = {}): Promise<boolean> {
    return await this.#setAttributes(key, { active: isActive }, options);
  }

  /**
   * Checks, best at start-up, that the server can be reached, that it knows the token, that the token can use this store, that
   * the store exists, and that the secret is the one its other clients use.
   *
   * @throws the error that the first read or write would.
   */
  async verify(options: StoreCallOptions = {}): Promise<void> {
    const sources = this.#sources(options);
    const call = this.#budget(options);
    // A hash of no key: nobody can have written there, so the answer tells of the store alone.
    const keyHash = crypto.getRandomValues(new Uint8Array(32));
    try {
      await this.#parts.recordApi.read({ project: this.project, store: this.id, keyHash }, call);
    } catch (error) {
      if (!(error instanceof PermissionDeniedError)) throw error;
      const grants = await this.#parts.jsonApi.list<Partial<Record<keyof Grant, unknown>>>(
        "v1/token",
        "grants",
        options,
      );
      if (!mayWrite(grants, this.id)) throw error;
    }
    await this.#parts.records.requireSecret(sources, call);
  }

  /**
   * Brings keys, in bulk, from the previous secrets under the current one: see `secret: { current, previous }`. Keys already
   * there are passed over, so it can be stopped and started again. Afterwards drop `previous` from the configuration and let
   * an administrator remove the old secret check.
   *
   * @example
   * const counts = await store.migrateSecret(keys, { onProgress: ({ done }) => console.log(done) });
   */
  async migrateSecret(
    keys: Iterable<string>,
    options: StoreCallOptions & { onProgress?: (progress: MigrationProgress) => void } = {},
  ): Promise<MigrationProgress> {
    const progress: MigrationProgress = { done: 0, moved: 0, already: 0, absent: 0 };
    for (const key of keys) {
      const outcome = await this.#parts.records.migrate(await this.#open(key, options), this.#budget(options));
      progress.done++;
      progress[outcome]++;
      options.onProgress?.({ ...progress });
    }
    return progress;
  }

  /**
   * Ends a change of secret: the server forgets the checks of the previous secrets, so that no client that has only one of
   * them is let in again. Do it when all keys are moved and all clients have the new secret. Needs the permission manage.
   */
  async forgetPreviousSecrets(options: StoreCallOptions = {}): Promise<void> {
    await this.#parts.records.forgetPreviousSecrets(this.#sources(options), this.#budget(options));
  }

  /**
   * Forgets what this client has seen of a key: the way on after an honest restore of the server from a backup, when
   * `RollbackError` is to be expected.
   */
  async forgetMark(key: string, options: StoreCallOptions = {}): Promise<void> {
    await this.#parts.records.forgetMarks(await this.#open(key, options));
  }

  /** Shows the store's names and nothing else. */
  toJSON(): { project: string; store: string } {
    return { project: this.project, store: this.id };
  }

  async #readMany<T>(
    keys: Iterable<string>,
    options: BulkReadOptions,
    convert: (entry: Entry | null) => T,
  ): Promise<Map<string, T | TacendaError>> {
    const names = [...new Set(keys)];
    const sets = await Promise.all(names.map((key) => this.#open(key, options)));
    const found = await this.#parts.records.readMany(sets, this.#budget(options));
    const results = new Map<string, T | TacendaError>();
    for (const [index, key] of names.entries()) {
      try {
        const result = found[index] ?? null;
        if (TacendaError.is(result)) throw result;
        results.set(key, convert(entryOf(result)));
      } catch (error) {
        if (options.onError !== "collect" || !TacendaError.is(error)) throw error;
        results.set(key, error);
      }
    }
    return results;
  }

  async #writeAfter(
    set: KeySet,
    previous: number,
    draft: Draft,
    call: CallOptions,
    refuse: (current: VerifiedHead) => void = refuseMoved,
  ): Promise<{ version: number }> {
    return await inRounds(call, async () => {
      const written = await this.#parts.records.write(set, previous, draft, call, refuse);
      if ("version" in written) return { done: written };
      if (written.current !== null) refuse(written.current);
      previous = written.current?.version ?? 0;
      return { outrunBy: previous };
    });
  }

  async #writeOver(set: KeySet, ifVersion: number, draft: Draft, call: CallOptions): Promise<{ version: number }> {
    // Under a previous secret there may be a value that must not be overwritten unseen: it is moved first.
    if (set.sources.previous.length > 0) await this.#parts.records.read(set, call, { forWrite: true });
    const refuse = ({ version }: VerifiedHead) => {
      throw conflict(version, ifVersion);
    };
    const written = await this.#parts.records.write(set, ifVersion, draft, call, refuse);
    if ("version" in written) return written;
    if (written.current !== null) refuseMoved(written.current);
    throw conflict(written.current?.version ?? 0, ifVersion);
  }

  async #remove(key: string, options: DeleteOptions, purgeEarlier: boolean): Promise<{ version: number } | null> {
    checkCondition(options);
    const set = await this.#open(key, options);
    const call = this.#budget(options);
    return await inRounds(call, async () => {
      const located = await this.#parts.records.read(set, call, { forWrite: true });
      const head = headOf(located.found);
      const version = head?.version ?? 0;
      if (options.ifVersion !== undefined && version !== options.ifVersion) throw conflict(version, options.ifVersion);
      if (located.found === null || head === null) return { done: null };
      refuseMoved(head);
      if (located.found.gone && !purgeEarlier) return { done: null };
      const written = await this.#parts.records.remove(set, located, purgeEarlier, call);
      return "version" in written ? { done: written } : { outrunBy: written.current?.version ?? 0 };
    });
  }

  async #setAttributes(
    key: string,
    attributes: Partial<RecordAttributes>,
    options: StoreCallOptions,
  ): Promise<boolean> {
    return await this.#parts.records.setAttributes(await this.#open(key, options), attributes, this.#budget(options));
  }

  /** Options by which all exchanges of one call share its timeout. */
  #budget({ signal, timeout = this.#parts.timeout }: StoreCallOptions): CallOptions {
    const deadline = Date.now() + timeout;
    return {
      signal,
      get timeout() {
        return Math.max(0, deadline - Date.now());
      },
    };
  }

  #sources(options: StoreCallOptions): KeySources {
    const { source, secretOptions } = this.#parts;
    const secrets = secretsOf([options.secret], source.iterations, secretOptions) ?? this.#parts.secrets;
    if (secrets === undefined) {
      throw new ConfigurationError(
        "The secret is missing: pass { secret } to the call or to getStore, or set TACENDA_SECRET.",
      );
    }
    return {
      current: { ...source, secret: secrets.current },
      previous: secrets.previous.map((secret) => ({ ...source, secret })),
    };
  }

  async #open(key: string, options: StoreCallOptions): Promise<KeySet> {
    return await this.#parts.records.open(checkKey(key, this.#parts.naming), this.#sources(options), options.signal);
  }
}

function checkCondition({ ifVersion }: VersionCondition): void {
  if (ifVersion !== undefined) checkInteger("ifVersion", ifVersion, 0, MAX_VERSION - 1);
}

function conflict(currentVersion: number, ifVersion: number): ConflictError {
  return new ConflictError(`The key is at version ${currentVersion}, not ${ifVersion}.`, { currentVersion });
}

/** Whether a grant, as the server tells it, lets its holder write in the store; for tokens that may write and not read. */
function mayWrite(grants: readonly Partial<Record<keyof Grant, unknown>>[], store: string): boolean {
  const matches = (pattern: unknown) =>
    typeof pattern === "string" && (pattern.endsWith("*") ? store.startsWith(pattern.slice(0, -1)) : pattern === store);
  return grants.some(
    ({ stores, permissions }) =>
      Array.isArray(permissions) && permissions.includes("write") && Array.isArray(stores) && stores.some(matches),
  );
}
