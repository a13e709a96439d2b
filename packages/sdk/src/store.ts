/** A named collection of sealed values: the calls that are the product. */

import { MAX_VERSION, RecordState, type Grant, type RecordAttributes } from "@tacenda/protocol";

import { checkInteger } from "./checks.js";
import { utf8 } from "./crypto/bytes.js";
import type { VerifiedHead } from "./crypto/record.js";
import type { Entry } from "./entry.js";
import {
  AlreadyExistsError,
  ConfigurationError,
  ConflictError,
  NotTextError,
  PermissionDeniedError,
  SecretRotatedError,
  VersionNotFoundError,
} from "./errors.js";
import type { JsonApi } from "./http/json-api.js";
import type { CallOptions, RecordApi } from "./http/record-api.js";
import type { KeySource } from "./key-cache.js";
import { type SecretOptions, type StoreCallOptions, secretsOf } from "./options.js";
import { inRounds } from "./rounds.js";
import type { KeySources } from "./secret-guard.js";
import type { Secrets } from "./secret.js";
import type { KeySet, StoreRecords } from "./store-records.js";
import { type Draft, type ValueOptions, checkKey, draftOf } from "./value.js";
import { type Found, headOf, isExpired } from "./verified-records.js";

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

/** Options of `setValue` and `createValue`. */
export interface WriteOptions extends StoreCallOptions, ValueOptions {}

/** Options of calls that can be bound to a version. */
export interface VersionCondition {
  /** Write only if this is the current version (0: only if the key never existed); else `ConflictError`. */
  ifVersion?: number | undefined;
}

export interface SetOptions extends WriteOptions, VersionCondition {}

export interface DeleteOptions extends StoreCallOptions, VersionCondition {}

export interface ReadOptions extends StoreCallOptions {
  /** An earlier version than the current one. */
  version?: number | undefined;
}

/** A version that the server says it keeps. Reading it proves it. */
export interface KeptVersion {
  version: number;
  claimed: {
    createdAt: Date;
    /** Bytes of the sealed record. */
    size: number;
  };
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
    const value = (await this.getEntry(key, options))?.value ?? null;
    if (value === null || typeof value === "string") return value;
    throw new NotTextError("The value was stored as bytes: read it with getBytes.");
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
    const { found, keys } = await records.read(set, call);
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
    // A hash of no key: nobody can have written there, so the answer tells of the store alone.
    const keyHash = crypto.getRandomValues(new Uint8Array(32));
    try {
      await this.#parts.recordApi.read({ project: this.project, store: this.id, keyHash }, options);
    } catch (error) {
      if (!(error instanceof PermissionDeniedError)) throw error;
      const grants = await this.#parts.jsonApi.list<Partial<Record<keyof Grant, unknown>>>(
        "v1/token",
        "grants",
        options,
      );
      if (!mayWrite(grants, this.id)) throw error;
    }
    await this.#parts.records.requireSecret(sources, options.signal);
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

  async #writeAfter(
    set: KeySet,
    previous: number,
    draft: Draft,
    call: CallOptions,
    refuse: (current: VerifiedHead) => void = refuseMoved,
  ): Promise<{ version: number }> {
    return await inRounds(call, async () => {
      const written = await this.#parts.records.write(set, previous, draft, call);
      if ("version" in written) return { done: written };
      if (written.current !== null) refuse(written.current);
      previous = written.current?.version ?? 0;
      return { outrunBy: previous };
    });
  }

  async #writeOver(set: KeySet, ifVersion: number, draft: Draft, call: CallOptions): Promise<{ version: number }> {
    // Under a previous secret there may be a value that must not be overwritten unseen.
    const { found } = set.sources.previous.length > 0 ? await this.#parts.records.read(set, call) : { found: null };
    if (found !== null && ifVersion === 0) throw conflict(headOf(found)?.version ?? 0, ifVersion);
    const written = await this.#parts.records.write(set, ifVersion, draft, call);
    if ("version" in written) return written;
    if (written.current !== null) refuseMoved(written.current);
    throw conflict(written.current?.version ?? 0, ifVersion);
  }

  async #remove(key: string, options: DeleteOptions, purgeEarlier: boolean): Promise<{ version: number } | null> {
    checkCondition(options);
    const set = await this.#open(key, options);
    const call = this.#budget(options);
    return await inRounds(call, async () => {
      const located = await this.#parts.records.read(set, call);
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

function refuseMoved({ state }: VerifiedHead): void {
  if (state !== RecordState.moved) return;
  throw new SecretRotatedError("This key has been moved to another secret: use the store's current secret.");
}

function refuseLive(current: VerifiedHead): void {
  refuseMoved(current);
  if (current.state !== RecordState.value || isExpired(current.expiresAt)) return;
  throw new AlreadyExistsError("The key already has a value: use setValue to overwrite it.");
}

function entryOf(found: Found): Entry | null {
  const head = headOf(found);
  if (found === null || head === null) return null;
  refuseMoved(head);
  const expiresAt = head.expiresAt === 0 ? null : new Date(head.expiresAt);
  const { version } = head;
  if (found.gone) {
    return { state: head.state === RecordState.tombstone ? "deleted" : "expired", value: null, version, expiresAt };
  }
  const { text, value, metadataObject, sealedAt } = found.record.payload;
  return {
    state: "live",
    value: text ?? value.slice(),
    version,
    sealedAt: new Date(sealedAt),
    expiresAt,
    metadata: metadataObject,
    claimed: found.claimed,
  };
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
