/** Reading and writing sealed records over HTTP; spec/http.md § Records. Nothing here knows a key. */

import {
  HEADERS,
  HEAD_BYTES,
  MAX_RECORD_BYTES,
  MAX_VERSION,
  RECORD_MEDIA_TYPE,
  fromBase64url,
  parseVersionTag,
  recordPath,
  versionTag,
  type RecordAttributes,
  type VersionInfo,
} from "@tacenda/protocol";

import { ConflictError, OutcomeUnknownError, ProtocolError, type TacendaError } from "../errors.js";
import { type Answer, errorBody, errorOf, parseJson } from "./answer.js";
import type { Transport } from "./transport.js";

const MAX_ATTRIBUTES_BYTES = 1_024;
/** A thousand versions, the most a store keeps, take less. */
const MAX_VERSIONS_BYTES = 131_072;

/** Options of every call. */
export interface CallOptions {
  /** Ends the call early; it rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Milliseconds for the exchange with the server, repetitions included. */
  timeout?: number | undefined;
}

export interface RecordAddress {
  project: string;
  store: string;
  keyHash: Uint8Array;
}

/** What the server says of a record and nobody else vouches for. */
export interface ServerClaims {
  /** When the server says that it stored this version; null when it does not say. */
  createdAt: Date | null;
  protected: boolean;
  active: boolean;
}

/** An unverified version: its number as the server gives it, and the bytes that must prove it. */
export interface Unverified {
  version: number;
  bytes: Uint8Array;
}

export type ReadAnswer =
  | ({ kind: "record"; claimed: ServerClaims } & Unverified)
  | ({ kind: "expired" } & Unverified)
  | { kind: "absent" }
  /** The version that the caller already has is still current. */
  | { kind: "unchanged"; claimed: ServerClaims };

/** What to read of a record, if not just its current version. */
export interface ReadCondition {
  /** An earlier version. */
  version?: number | undefined;
  /** The version the caller already has: if it is current, the server need not send it again. */
  unlessVersion?: number | undefined;
}

export type WriteAnswer =
  | { kind: "written" }
  /** `current` is null when the server says that the key hash never existed. */
  | { kind: "conflict"; current: Unverified | null; resent: boolean };

export class RecordApi {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Gets a version of a record. Throws the typed error of any answer but 200, 410 `record_expired` and 404 `record_not_found`. */
  async read(address: RecordAddress, options: CallOptions, condition: ReadCondition = {}): Promise<ReadAnswer> {
    const { version, unlessVersion } = condition;
    const answer = await this.#transport.send({
      method: "GET",
      path: version === undefined ? pathOf(address) : `${pathOf(address)}?version=${version}`,
      ...(unlessVersion !== undefined && { headers: { "if-none-match": versionTag(unlessVersion) } }),
      maxBytes: MAX_RECORD_BYTES,
      signal: options.signal,
      timeout: options.timeout,
    });
    if (answer.status === 200) {
      const tagged = parseVersionTag(answer.headers.get("etag") ?? "");
      if (tagged === null) throw new ProtocolError("The answer has no strong ETag: a proxy may have altered it.");
      return { kind: "record", version: tagged, bytes: answer.bytes, claimed: claimsOf(answer) };
    }
    if (answer.status === 304 && unlessVersion !== undefined) return { kind: "unchanged", claimed: claimsOf(answer) };
    const error = errorBody(answer);
    if (error?.code === "record_not_found") return { kind: "absent" };
    if (error?.code === "record_expired") return { kind: "expired", ...requireCurrent(answer) };
    throw errorOf(answer);
  }

  /**
   * Puts `record` as `version`, on the condition that the version before it is current (or none, for 1). With
   * `purgeEarlier` the earlier versions go in the same commit. Throws the typed error of any answer but success and 412.
   */
  async write(
    address: RecordAddress,
    version: number,
    record: Uint8Array<ArrayBuffer>,
    options: CallOptions,
    { purgeEarlier = false } = {},
  ): Promise<WriteAnswer> {
    const condition: Record<string, string> =
      version === 1 ? { "if-none-match": "*" } : { "if-match": versionTag(version - 1) };
    const answer = await this.#transport.send({
      method: "PUT",
      path: purgeEarlier ? `${pathOf(address)}?purge=earlier` : pathOf(address),
      headers: { "content-type": RECORD_MEDIA_TYPE, ...condition },
      body: record,
      maxBytes: 0,
      signal: options.signal,
      timeout: options.timeout,
    });
    if (answer.status === 200 || answer.status === 201) {
      if (answer.headers.get("etag") === versionTag(version)) return { kind: "written" };
      throw new ProtocolError("The server acknowledged another version than was written: check what lies before it.");
    }
    return conflictOf(answer);
  }

  /**
   * Sets what the server enforces without reading the record, on the condition that `version` is current; the answer is as
   * that of a write. To set the same again changes nothing, so it may be sent again.
   */
  async setAttributes(
    address: RecordAddress,
    version: number,
    attributes: Partial<RecordAttributes>,
    options: CallOptions,
  ): Promise<WriteAnswer> {
    const answer = await this.#transport.send({
      method: "PATCH",
      path: pathOf(address),
      headers: { "content-type": "application/json", "if-match": versionTag(version) },
      body: JSON.stringify(attributes),
      maxBytes: MAX_ATTRIBUTES_BYTES,
      signal: options.signal,
      timeout: options.timeout,
    });
    if (answer.status === 200) return { kind: "written" };
    return conflictOf(answer);
  }

  /** The versions that the server says it keeps of a record; null when it says that there never was one. */
  async listVersions(address: RecordAddress, options: CallOptions): Promise<VersionInfo[] | null> {
    const answer = await this.#transport.send({
      method: "GET",
      path: `${pathOf(address)}/versions`,
      maxBytes: MAX_VERSIONS_BYTES,
      signal: options.signal,
      timeout: options.timeout,
    });
    if (errorBody(answer)?.code === "record_not_found") return null;
    if (answer.status !== 200) throw errorOf(answer);
    const { versions } = (parseJson(answer.bytes) ?? {}) as { versions?: unknown };
    if (Array.isArray(versions) && versions.every(isVersionInfo)) return versions;
    throw new ProtocolError("The answer is not a Tacenda server's list of versions: check `url`.");
  }
}

/** The conflict that a 412 tells of. Throws the typed error of any other answer. */
function conflictOf(answer: Answer): WriteAnswer {
  if (errorBody(answer)?.code !== "version_conflict") {
    const error = errorOf(answer);
    throw answer.resent ? outcomeUnknown(error) : error;
  }
  if (errorBody(answer)?.current === null) return { kind: "conflict", current: null, resent: answer.resent };
  try {
    return { kind: "conflict", current: requireCurrent(answer), resent: answer.resent };
  } catch (error) {
    throw answer.resent && error instanceof ProtocolError ? outcomeUnknown(error) : error;
  }
}

function isVersionInfo(info: unknown): info is VersionInfo {
  if (typeof info !== "object" || info === null) return false;
  const { version, createdAt, size } = info as Partial<Record<keyof VersionInfo, unknown>>;
  return [version, createdAt, size].every((number) => Number.isSafeInteger(number) && (number as number) >= 0);
}

/** The error of a write that was sent again and then not carried out, `cause` being why. */
export function outcomeUnknown(cause?: TacendaError): OutcomeUnknownError {
  if (cause instanceof OutcomeUnknownError) return cause;
  return new OutcomeUnknownError(
    "The write was sent again after no clear answer, and was then refused: the first one may or may not have happened. " +
      "Read the key before you write again.",
    cause && { cause },
  );
}

/** The version after `version`. */
export function nextVersion(version: number): number {
  if (version < MAX_VERSION) return version + 1;
  throw new ConflictError("The key has reached the last possible version.", { currentVersion: version });
}

function pathOf({ project, store, keyHash }: RecordAddress): string {
  return recordPath(project, store, keyHash);
}

function claimsOf({ headers }: Answer): ServerClaims {
  const milliseconds = /^\d{1,16}$/.exec(headers.get(HEADERS.createdAt) ?? "")?.[0];
  const createdAt = new Date(Number(milliseconds));
  return {
    createdAt: Number.isNaN(createdAt.getTime()) ? null : createdAt,
    protected: headers.get(HEADERS.attributes) === "protected",
    active: true,
  };
}

/** The current version that an error names, with a head of the right length. */
function requireCurrent(answer: Answer): Unverified {
  return currentOf(errorBody(answer)?.current);
}

/** A version and its head, unverified but in the right form. @throws {ProtocolError} */
export function currentOf(current: unknown): Unverified {
  const { version, head } = (current ?? {}) as { version?: unknown; head?: unknown };
  const bytes = typeof head === "string" ? fromBase64url(head) : null;
  if (typeof version === "number" && Number.isSafeInteger(version) && version >= 1 && bytes?.length === HEAD_BYTES) {
    return { version, bytes };
  }
  throw new ProtocolError("The answer does not tell the record's current version: is the server of an older version?");
}
