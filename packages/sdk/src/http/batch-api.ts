/** Many reads, or an all-or-nothing set of conditional writes, in one request; spec/http.md § Batch. */

import {
  MAX_BATCH_BYTES,
  encodeKeyHash,
  fromBase64url,
  storePath,
  toBase64url,
  type BatchReadResult,
  type BatchRequest,
} from "@tacenda/protocol";

import { ProtocolError } from "../errors.js";
import { type Answer, errorBody, errorOf, parseJson } from "./answer.js";
import { type CallOptions, type ReadAnswer, type Unverified, currentOf, outcomeUnknown } from "./record-api.js";
import type { Transport } from "./transport.js";

/** A sealed record on its way into a batch. */
export interface BatchRecord {
  keyHash: Uint8Array;
  /** The version it is; the one before must be current. */
  version: number;
  record: Uint8Array;
  purgeEarlier: boolean;
}

export type BatchReadAnswer =
  Exclude<ReadAnswer, { kind: "unchanged" }> | { kind: "inactive" } | { kind: "damaged" } | { kind: "fetch_singly" };

export type BatchWriteAnswer =
  | { kind: "written" }
  /** By index: the unverified version in the way, or null where the key hash never existed. */
  | { kind: "conflict"; conflicts: Map<number, Unverified | null>; resent: boolean };

/** A conflict of every operation, each with its head, takes less. */
const MAX_CONFLICTS_BYTES = 65_536;
/** A JSON answer is somewhat longer than the records in it. */
const MAX_ANSWER_BYTES = MAX_BATCH_BYTES + 262_144;

export class BatchApi {
  readonly #transport: Transport;
  readonly #project: string;
  readonly #store: string;

  constructor(transport: Transport, { project, storeId }: { project: string; storeId: string }) {
    this.#transport = transport;
    this.#project = project;
    this.#store = storeId;
  }

  /** Reads the current versions, in the order asked. */
  async read(keyHashes: readonly Uint8Array[], options: CallOptions): Promise<BatchReadAnswer[]> {
    const reads = keyHashes.map((keyHash) => ({ key: encodeKeyHash(keyHash) }));
    const answer = await this.#send({ reads }, options);
    if (answer.status !== 200) throw errorOf(answer);
    const { results } = (parseJson(answer.bytes) ?? {}) as { results?: unknown };
    if (Array.isArray(results) && results.length === reads.length) return results.map(readAnswer);
    throw new ProtocolError("The answer does not fit the batch that was asked for: check `url`.");
  }

  /** Writes all records, or none. The same bytes are sent again when no clear answer came: the server replays them. */
  async write(records: readonly BatchRecord[], options: CallOptions): Promise<BatchWriteAnswer> {
    const writes = records.map(({ keyHash, version, record, purgeEarlier }) => ({
      key: encodeKeyHash(keyHash),
      expect: version - 1,
      record: toBase64url(record),
      ...(purgeEarlier && { purge: "earlier" as const }),
    }));
    const answer = await this.#send({ writes }, options);
    if (answer.status === 200) {
      const { results } = (parseJson(answer.bytes) ?? {}) as { results?: unknown };
      const versions = Array.isArray(results)
        ? results.map((result: { version?: unknown } | null) => result?.version)
        : [];
      if (versions.length === records.length && records.every(({ version }, index) => version === versions[index])) {
        return { kind: "written" };
      }
      throw new ProtocolError("The server acknowledged other versions than were written: check what lies before it.");
    }
    const error = errorBody(answer);
    if (error?.code !== "version_conflict") throw answer.resent ? outcomeUnknown(errorOf(answer)) : errorOf(answer);
    try {
      return { kind: "conflict", conflicts: conflictsOf(error.conflicts, records.length), resent: answer.resent };
    } catch (fault) {
      throw answer.resent && fault instanceof ProtocolError ? outcomeUnknown(fault) : fault;
    }
  }

  async #send(request: BatchRequest, { signal, timeout }: CallOptions): Promise<Answer> {
    return await this.#transport.send({
      method: "POST",
      path: `${storePath(this.#project, this.#store)}/batch`,
      headers: { "content-type": "application/json" },
      body: JSON.stringify(request),
      mayRepeat: true,
      changesNothing: "reads" in request,
      maxBytes: MAX_ANSWER_BYTES,
      maxErrorBytes: MAX_CONFLICTS_BYTES,
      signal,
      timeout,
    });
  }
}

const NOT_OURS = "The answer is not a Tacenda server's batch: check `url`.";

function readAnswer(result: unknown): BatchReadAnswer {
  const answer = result as BatchReadResult | null;
  switch (answer?.status) {
    case "absent":
    case "inactive":
    case "damaged":
    case "fetch_singly":
      return { kind: answer.status };
    case "expired":
      return { kind: "expired", ...currentOf(answer.current) };
    case "record": {
      const { version, record, createdAt } = answer as { version: unknown; record: unknown; createdAt: unknown };
      const bytes = typeof record === "string" ? fromBase64url(record) : null;
      if (typeof version !== "number" || !Number.isSafeInteger(version) || version < 1 || bytes === null) break;
      const time = new Date(typeof createdAt === "number" ? createdAt : NaN);
      const claimed = {
        createdAt: Number.isNaN(time.getTime()) ? null : time,
        protected: (answer.protected as unknown) === true,
        active: true,
      };
      return { kind: "record", version, bytes, claimed };
    }
    case undefined:
  }
  throw new ProtocolError(NOT_OURS);
}

function conflictsOf(conflicts: unknown, count: number): Map<number, Unverified | null> {
  const byIndex = new Map<number, Unverified | null>();
  for (const conflict of Array.isArray(conflicts) ? (conflicts as unknown[]) : []) {
    const { index, current } = (conflict ?? {}) as { index?: unknown; current?: unknown };
    if (typeof index !== "number" || !Number.isInteger(index) || index < 0 || index >= count)
      throw new ProtocolError(NOT_OURS);
    byIndex.set(index, current === null ? null : currentOf(current));
  }
  if (byIndex.size === 0) throw new ProtocolError(NOT_OURS);
  return byIndex;
}
