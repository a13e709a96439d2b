/** Key operations of a running server; spec/http.md § Keys. Root only. */

import {
  storePath,
  type DestructionReceipt,
  type KeyStatus,
  type MasterKeyRef,
  type StoreKeyStatus,
} from "@tacenda/protocol";

import { checkId } from "./checks.js";
import type { JsonApi } from "./http/json-api.js";
import type { CallOptions } from "./http/record-api.js";

export type { KeyStatus, MasterKeyRef, StoreKeyStatus };

/** A version of a master key; of the provider that wraps new keys when none is named. */
export interface MasterKeyQuery {
  provider?: string;
  version: number;
}

interface StoreCallOptions extends CallOptions {
  /** Another project than the client's. */
  project?: string | undefined;
}

const KEYS = "v1/admin/keys";

/**
 * What they begin goes on in the background: `status` tells how far it has come.
 *
 * @example
 * await admin.keys.rotate();
 * while ((await admin.keys.status()).outdatedWraps > 0) await setTimeout(1_000);
 * await admin.keys.retire({ version: 1 });
 */
export class Keys {
  readonly #api: JsonApi;
  readonly #project: string;

  constructor(api: JsonApi, project: string) {
    this.#api = api;
    this.#project = project;
  }

  async status(options: CallOptions = {}): Promise<KeyStatus> {
    return await this.#api.send<KeyStatus>("GET", KEYS, undefined, options);
  }

  /** Makes a new master key, and has every store key wrapped under it. @throws {KeyProviderUnavailableError} */
  async rotate(options: CallOptions = {}): Promise<MasterKeyRef> {
    return await this.#api.send<MasterKeyRef>("POST", `${KEYS}/rotate`, {}, options);
  }

  /** Has every store key wrapped by another key provider that the server is configured with. */
  async migrate(to: string, options: CallOptions = {}): Promise<MasterKeyRef> {
    return await this.#api.send<MasterKeyRef>("POST", `${KEYS}/migrate`, { to }, options);
  }

  /** The version wraps and unwraps nothing any more, until it is reinstated. @throws {KeyInUseError} */
  async retire(query: MasterKeyQuery, options: CallOptions = {}): Promise<MasterKeyRef> {
    return await this.#api.send<MasterKeyRef>("POST", `${KEYS}/retire`, query, options);
  }

  /** Takes `retire` back. @throws {KeyInUseError} when the version was destroyed. */
  async reinstate(query: MasterKeyQuery, options: CallOptions = {}): Promise<MasterKeyRef> {
    return await this.#api.send<MasterKeyRef>("POST", `${KEYS}/reinstate`, query, options);
  }

  /** Destroys a retired version for good. @throws {KeyInUseError} when it is not retired. */
  async destroy(query: MasterKeyQuery, options: CallOptions = {}): Promise<DestructionReceipt> {
    return await this.#api.send<DestructionReceipt>("POST", `${KEYS}/destroy`, query, options);
  }

  /** The keys of a store, without the keys. @throws {StoreNotFoundError} */
  async ofStore(id: string, options: StoreCallOptions = {}): Promise<StoreKeyStatus> {
    return await this.#api.send<StoreKeyStatus>("GET", this.#pathOf(id, options), undefined, options);
  }

  /**
   * Gives a store a new data key for all new writes; with `reencrypt`, all that it holds comes under it as well, in the
   * background.
   * @throws {StoreNotFoundError}
   */
  async rotateData(id: string, options: StoreCallOptions & { reencrypt?: boolean } = {}): Promise<StoreKeyStatus> {
    const { reencrypt = false } = options;
    return await this.#api.send<StoreKeyStatus>("POST", `${this.#pathOf(id, options)}/rotate`, { reencrypt }, options);
  }

  /** Has all that a store holds encrypted under its newest data key. @throws {StoreNotFoundError} */
  async reencrypt(id: string, options: StoreCallOptions = {}): Promise<StoreKeyStatus> {
    return await this.#api.send<StoreKeyStatus>("POST", `${this.#pathOf(id, options)}/reencrypt`, {}, options);
  }

  #pathOf(id: string, { project }: StoreCallOptions): string {
    return `${storePath(checkId("project", project ?? this.#project), checkId("store", id))}/keys`;
  }
}
