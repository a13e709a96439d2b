/** A named collection of sealed values: the calls that are the product. */

import { MAX_VERSION, RecordState, type Grant } from "@tacenda/protocol";

import { delay, orAborted } from "./concurrency.js";
import { utf8 } from "./crypto/bytes.js";
import type { RecordKeys } from "./crypto/derive.js";
import type { Payload } from "./crypto/payload.js";
import type { VerifiedHead } from "./crypto/record.js";
import type { Entry } from "./entry.js";
import {
  AlreadyExistsError,
  ConfigurationError,
  ConflictError,
  NotTextError,
  PermissionDeniedError,
  SecretRotatedError,
} from "./errors.js";
import type { JsonApi } from "./http/json-api.js";
import type { CallOptions, RecordApi } from "./http/record-api.js";
import type { KeyCache, KeySource } from "./key-cache.js";
import { type SecretOptions, type StoreCallOptions, checkInteger, secretOf } from "./options.js";
import type { Secret } from "./secret.js";
import { checkKey, payloadOf } from "./value.js";
import { type Found, type VerifiedRecords, isExpired } from "./verified-records.js";

/** What a store shares with its client. */
export interface StoreParts {
  keys: KeyCache;
  records: VerifiedRecords;
  recordApi: RecordApi;
  jsonApi: JsonApi;
  /** All but the secret. */
  source: Omit<KeySource, "secret">;
  secret: Secret | undefined;
  secretOptions: SecretOptions;
  /** Milliseconds for a call, unless it says otherwise. */
  timeout: number;
}

/** Options of `setValue` and `createValue`. */
export interface WriteOptions extends StoreCallOptions {
  /** A JSON object, at most 8,192 bytes, encrypted with the value. The next `setValue` replaces it. */
  metadata?: Record<string, unknown> | undefined;
}

export interface SetOptions extends WriteOptions {
  /** Write only if this is the current version (0: only if the key never existed); else `ConflictError`. */
  ifVersion?: number | undefined;
}

/** How often an overwrite starts again because another writer was faster. */
const MAX_ROUNDS = 30;
/** Milliseconds it waits at most in between; the jitter spreads writers that lost together. */
const LONGEST_PAUSE = 250;

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
  async getValue(key: string, options: StoreCallOptions = {}): Promise<string | null> {
    const value = (await this.getEntry(key, options))?.value ?? null;
    if (value === null || typeof value === "string") return value;
    throw new NotTextError("The value was stored as bytes: read it with getBytes.");
  }

  /** The bytes stored under `key` (of a text, its UTF-8), or null when there are none. Throws as `getValue` does. */
  async getBytes(key: string, options: StoreCallOptions = {}): Promise<Uint8Array | null> {
    const entry = await this.getEntry(key, options);
    const value = entry?.value ?? null;
    return typeof value === "string" ? utf8(value) : value;
  }

  /**
   * The value with all that is known of it, or null when the server says that the key never existed. A deleted or
   * expired key gives an entry without a value, and a holder of the secret has proved it. Throws as `getValue` does.
   */
  async getEntry(key: string, options: StoreCallOptions = {}): Promise<Entry | null> {
    const keys = await this.#recordKeys(key, options);
    return entryOf(await this.#parts.records.read(keys, options));
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
    const { ifVersion } = options;
    if (ifVersion !== undefined) checkInteger("ifVersion", ifVersion, 0, MAX_VERSION - 1);
    const payload = payloadOf(value, options.metadata);
    const keys = await this.#recordKeys(key, options);
    if (ifVersion === undefined)
      return await this.#writeAfter(keys, this.#lastSeen(keys), payload, this.#budget(options));
    const written = await this.#parts.records.write(keys, ifVersion, now(payload), options);
    if ("version" in written) return written;
    if (written.current !== null) refuseMoved(written.current);
    const currentVersion = written.current?.version ?? 0;
    throw new ConflictError(`The key is at version ${currentVersion}, not ${ifVersion}.`, { currentVersion });
  }

  /**
   * Stores a value only where there is none: the key never existed, or was provably deleted or has expired.
   *
   * @throws {AlreadyExistsError} when there is a value.
   */
  async createValue(key: string, value: string | Uint8Array, options: WriteOptions = {}): Promise<{ version: number }> {
    const payload = payloadOf(value, options.metadata);
    const keys = await this.#recordKeys(key, options);
    // A key seen before is read first: to write over its last version could overwrite a value.
    const call = this.#budget(options);
    const found = this.#lastSeen(keys) > 0 ? await this.#parts.records.read(keys, call) : null;
    const known = headOf(found);
    if (known !== null) (found?.gone === true ? refuseMoved : refuseLive)(known);
    return await this.#writeAfter(keys, known?.version ?? 0, payload, call, refuseLive);
  }

  /**
   * Checks, best at start-up, that the server can be reached, that it knows the token, that the token can use this store,
   * that the store exists, and that there is a secret.
   *
   * @throws the error that the first read or write would.
   */
  async verify(options: StoreCallOptions = {}): Promise<void> {
    this.#secret(options);
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
  }

  /**
   * Forgets what this client has seen of a key: the way on after an honest restore of the server from a backup, when
   * `RollbackError` is to be expected.
   */
  async forgetMark(key: string, options: StoreCallOptions = {}): Promise<void> {
    this.#parts.records.forgetMark(await this.#recordKeys(key, options));
  }

  /** Shows the store's names and nothing else. */
  toJSON(): { project: string; store: string } {
    return { project: this.project, store: this.id };
  }

  async #writeAfter(
    keys: RecordKeys,
    previous: number,
    payload: Omit<Payload, "sealedAt">,
    call: CallOptions,
    refuse: (current: VerifiedHead) => void = refuseMoved,
  ): Promise<{ version: number }> {
    for (let round = 0; round < MAX_ROUNDS && call.timeout !== 0; round++) {
      const written = await this.#parts.records.write(keys, previous, now(payload), call);
      if ("version" in written) return written;
      if (written.current !== null) refuse(written.current);
      previous = written.current?.version ?? 0;
      if (round > 0) await delay(Math.random() * Math.min(LONGEST_PAUSE, 10 * 2 ** round), call.signal);
    }
    throw new ConflictError("Other writers of this key were faster each time. Try again.", {
      currentVersion: previous,
    });
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

  #lastSeen(keys: RecordKeys): number {
    return this.#parts.records.mark(keys)?.version ?? 0;
  }

  #secret(options: StoreCallOptions): Secret {
    const { source, secretOptions } = this.#parts;
    const secret = secretOf([options.secret], source.iterations, secretOptions) ?? this.#parts.secret;
    if (secret !== undefined) return secret;
    throw new ConfigurationError(
      "The secret is missing: pass { secret } to the call or to getStore, or set TACENDA_SECRET.",
    );
  }

  async #recordKeys(key: string, options: StoreCallOptions): Promise<RecordKeys> {
    options.signal?.throwIfAborted();
    const keys = this.#parts.keys.recordKeys({ ...this.#parts.source, secret: this.#secret(options) }, checkKey(key));
    return keys instanceof Promise ? await orAborted(keys, options.signal) : keys;
  }
}

function now(payload: Omit<Payload, "sealedAt">): Payload {
  return { ...payload, sealedAt: Date.now() };
}

function headOf(found: Found): VerifiedHead | null {
  if (found === null) return null;
  return found.gone ? found.head : found.record;
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
