/** @tacenda/sdk/admin: projects, stores and tokens; spec/http.md § Projects, § Stores, § Tokens. */

import {
  storePath,
  type DestructionReceipt,
  type Grant,
  type MintedToken,
  type Project,
  type ProjectQuotas,
  type StoreSettings,
  type TokenInfo,
} from "@tacenda/protocol";
import type { NewProject, NewStore, NewToken, Store } from "@tacenda/protocol";

import { JsonApi } from "./http/json-api.js";
import type { CallOptions } from "./http/record-api.js";
import { Transport } from "./http/transport.js";
import { checkId } from "./checks.js";
import { Keys } from "./admin-keys.js";
import { type ConnectionOptions, projectOf, transportOptions } from "./options.js";

export type { KeyStatus, MasterKeyQuery, MasterKeyRef, StoreKeyStatus } from "./admin-keys.js";
export type {
  CallOptions,
  ConnectionOptions,
  DestructionReceipt,
  Grant,
  MintedToken,
  Project,
  ProjectQuotas,
  Store,
  StoreSettings,
  TokenInfo,
};

/** Options of calls within a project. */
export interface ProjectCallOptions extends CallOptions {
  /** Another project than the client's. */
  project?: string | undefined;
}

/** Options of `tokens.create`. */
export interface TokenOptions extends ProjectCallOptions {
  /** When the token stops working; never later than the token that mints it. */
  expiresAt?: Date | undefined;
}

/**
 * The administrator's client. Its token is the root token, or one with the permission `manage`.
 *
 * @example
 * const admin = new TacendaAdmin({ url, token: rootToken });
 * await admin.stores.create("user-tokens"); // in the project "default"; in another with { url, token, project: "acme" }
 * const { token } = await admin.tokens.create("backend", [{ stores: ["user-tokens"], permissions: ["read", "write"] }]);
 */
export class TacendaAdmin {
  readonly projects: Projects;
  readonly stores: Stores;
  readonly tokens: Tokens;
  readonly keys: Keys;

  /** @throws {ConfigurationError} when the URL or the token is missing, or an option makes no sense. */
  constructor(options: ConnectionOptions = {}) {
    const api = new JsonApi(new Transport(transportOptions(options)));
    const project = projectOf(options);
    this.projects = new Projects(api);
    this.stores = new Stores(api, project);
    this.tokens = new Tokens(api, project);
    this.keys = new Keys(api, project);
  }
}

/** Projects; root only. */
class Projects {
  readonly #api: JsonApi;

  constructor(api: JsonApi) {
    this.#api = api;
  }

  /**
   * Without quotas but for those given.
   *
   * @example
   * await admin.projects.create("acme", { maxStores: 10, maxTokens: 100, maxBytes: 1_000_000_000 });
   * @throws {AlreadyExistsError} @throws {IdRetiredError} when the id belonged to a destroyed project.
   */
  async create(id: string, options: CallOptions & Partial<ProjectQuotas> = {}): Promise<Project> {
    const body: NewProject = { id: checkId("project", id), ...quotas(options) };
    return await this.#api.send<Project>("POST", "v1/projects", body, options);
  }

  /**
   * Changes quotas; null takes one away, and those not given stay. A quota below what there is deletes nothing: it refuses what
   * would be more, with QuotaExceededError. Bytes are counted every few minutes and may be exceeded by what is written meanwhile.
   * @throws {StoreNotFoundError} when there is no such project.
   */
  async update(id: string, changes: Partial<ProjectQuotas>, options: CallOptions = {}): Promise<Project> {
    return await this.#api.send<Project>("PATCH", `v1/projects/${checkId("project", id)}`, quotas(changes), options);
  }

  async list(options: CallOptions = {}): Promise<Project[]> {
    return await this.#api.list<Project>("v1/projects", "projects", options);
  }

  /** Null when there is no such project. */
  async get(id: string, options: CallOptions = {}): Promise<Project | null> {
    return (await this.list(options)).find((project) => project.id === id) ?? null;
  }

  /** Destroys the project with its stores and tokens. Nothing of it can be read again. */
  async delete(id: string, options: CallOptions = {}): Promise<void> {
    await this.#api.send("DELETE", `v1/projects/${checkId("project", id)}`, undefined, options);
  }
}

/** Stores of a project; needs `manage`. */
class Stores {
  readonly #api: JsonApi;
  readonly #project: string;

  constructor(api: JsonApi, project: string) {
    this.#api = api;
    this.#project = project;
  }

  /** @throws {AlreadyExistsError} @throws {IdRetiredError} when the id belonged to a destroyed store. @throws {QuotaExceededError} */
  async create(id: string, options: ProjectCallOptions & Partial<StoreSettings> = {}): Promise<Store> {
    const { secrets, maxVersions } = options;
    const body: NewStore = { id: checkId("store", id), ...settings(secrets, maxVersions) };
    return await this.#api.send<Store>("POST", this.#path(options), body, options);
  }

  async list(options: ProjectCallOptions = {}): Promise<Store[]> {
    return await this.#api.list<Store>(this.#path(options), "stores", options);
  }

  /** @throws {StoreNotFoundError} */
  async get(id: string, options: ProjectCallOptions = {}): Promise<Store> {
    return await this.#api.send<Store>("GET", this.#pathOf(id, options), undefined, options);
  }

  /** Changes settings; those not given stay. @throws {StoreNotFoundError} */
  async update(id: string, changes: Partial<StoreSettings>, options: ProjectCallOptions = {}): Promise<Store> {
    const body = settings(changes.secrets, changes.maxVersions);
    return await this.#api.send<Store>("PATCH", this.#pathOf(id, options), body, options);
  }

  /**
   * Destroys the store with its wrapped keys. Its id is never used again. The receipt says what is gone, and what would still
   * open a backup of it.
   * @throws {StoreNotFoundError}
   */
  async delete(id: string, options: ProjectCallOptions = {}): Promise<DestructionReceipt> {
    return await this.#api.send<DestructionReceipt>("DELETE", this.#pathOf(id, options), undefined, options);
  }

  /**
   * Forgets which secrets the store's clients use; the next writer registers its own, whichever that is. For a store whose
   * registered secret is lost. A change of secret ends with `forgetPreviousSecrets` of the store instead.
   * @throws {StoreNotFoundError}
   */
  async forgetSecretChecks(id: string, options: ProjectCallOptions = {}): Promise<void> {
    await this.#api.send("DELETE", `${this.#pathOf(id, options)}/secret-check`, undefined, options);
  }

  #path(options: ProjectCallOptions): string {
    return `v1/projects/${checkId("project", options.project ?? this.#project)}/stores`;
  }

  #pathOf(id: string, options: ProjectCallOptions): string {
    return storePath(checkId("project", options.project ?? this.#project), checkId("store", id));
  }
}

/** Tokens of a project; needs `manage`. */
class Tokens {
  readonly #api: JsonApi;
  readonly #project: string;

  constructor(api: JsonApi, project: string) {
    this.#api = api;
    this.#project = project;
  }

  /** Mints a token. It is in this answer and nowhere else: the server keeps only its digest. @throws {QuotaExceededError} */
  async create(name: string, grants: Grant[], options: TokenOptions = {}): Promise<MintedToken> {
    const { expiresAt } = options;
    const body: NewToken = { name, grants, ...(expiresAt && { expiresAt: expiresAt.getTime() }) };
    return await this.#api.send<MintedToken>("POST", this.#path(options), body, options);
  }

  async list(options: ProjectCallOptions = {}): Promise<TokenInfo[]> {
    return await this.#api.list<TokenInfo>(this.#path(options), "tokens", options);
  }

  /** Null when there is no such token. */
  async get(id: string, options: ProjectCallOptions = {}): Promise<TokenInfo | null> {
    return (await this.list(options)).find((token) => token.id === id) ?? null;
  }

  /** Revokes a token and every token minted with it. */
  async delete(id: string, options: ProjectCallOptions = {}): Promise<void> {
    await this.#api.send("DELETE", `${this.#path(options)}/${encodeURIComponent(id)}`, undefined, options);
  }

  #path(options: ProjectCallOptions): string {
    return `v1/projects/${checkId("project", options.project ?? this.#project)}/tokens`;
  }
}

function quotas({ maxStores, maxTokens, maxBytes }: Partial<ProjectQuotas>): Partial<ProjectQuotas> {
  return {
    ...(maxStores !== undefined && { maxStores }),
    ...(maxTokens !== undefined && { maxTokens }),
    ...(maxBytes !== undefined && { maxBytes }),
  };
}

function settings(
  secrets: StoreSettings["secrets"] | undefined,
  maxVersions: number | undefined,
): Partial<StoreSettings> {
  return { ...(secrets !== undefined && { secrets }), ...(maxVersions !== undefined && { maxVersions }) };
}
