/** Handlers of records; spec/http.md § Records. They read the 75-byte head of a record and nothing more. */

import {
  HEADERS,
  HEAD_BYTES,
  MAX_VERSION,
  MIN_RECORD_BYTES,
  RECORD_MEDIA_TYPE,
  RecordState,
  parseHead,
  parseVersion,
  toBase64url,
  versionTag,
  type CurrentVersion,
  type RecordAttributes,
  type RecordHead,
  type VersionList,
} from "@tacenda/protocol";
import type { z } from "zod";

import { authorize } from "../auth/authorize.js";
import type { KeptVersion, RecordRef, StoredRecord, WriteOperation } from "../storage/record-store.js";
import type { Call, Services } from "./call.js";
import { HttpError } from "./http-error.js";
import { expectedCurrent, expectedVersion, matchesTag } from "./preconditions.js";
import { jsonReply, type Reply } from "./reply.js";
import type { attributesChange } from "./schemas.js";

/** How often a write decides again because another one came in between, before it answers `overloaded`. */
const MAX_ATTEMPTS = 8;

function refOf({ project, store, keyHash }: Call): RecordRef {
  return { project, store, id: keyHash };
}

/** The number and head of a kept version, as errors tell them. */
function describe({ version, body }: KeptVersion): CurrentVersion {
  return { version, head: toBase64url(body.subarray(0, HEAD_BYTES)) };
}

async function readCurrent(ref: RecordRef, { records }: Services): Promise<StoredRecord | null> {
  const [record] = await records.read([ref]);
  return record ?? null;
}

function conflictWith(record: StoredRecord | null): HttpError {
  return new HttpError("version_conflict", { current: record?.kept ? describe(record.kept) : null });
}

/** `GET R`: the bytes of the current version, or of `?version=n`. */
export async function getRecord(call: Call, services: Services): Promise<Reply> {
  const ref = refOf(call);
  const asked = call.query.get("version");
  const [record, earlier] = await services.records.read(
    asked === undefined ? [ref] : [ref, { ...ref, version: readVersion(asked) }],
  );
  if (!record) throw new HttpError("record_not_found");
  if (!record.current.active) throw new HttpError("record_inactive");
  // Expiry of the current version ends the earlier ones too, so it is decided first.
  refuseExpired(record.kept, services);
  const kept = asked === undefined ? record.kept : (earlier?.kept ?? null);
  if (kept === null) throw new HttpError("record_not_found");
  if (kept !== record.kept) refuseExpired(kept, services);
  const tag = versionTag(kept.version);
  const headers: Record<string, string> = {
    "content-type": RECORD_MEDIA_TYPE,
    etag: tag,
    [HEADERS.createdAt]: String(kept.createdAt),
  };
  if (record.current.protected) headers[HEADERS.attributes] = "protected";
  const ifNoneMatch = call.headers.get("if-none-match");
  if (ifNoneMatch !== null && matchesTag(ifNoneMatch, tag)) return { status: 304, headers };
  return { status: 200, headers, body: kept.body };
}

/** `GET R/versions`: number, time and size of each version kept, without opening one. */
export async function listVersions(call: Call, { records }: Services): Promise<Reply> {
  const record = await records.versions(refOf(call));
  if (record === null) throw new HttpError("record_not_found");
  if (!record.current.active) throw new HttpError("record_inactive");
  return jsonReply(200, { versions: record.versions } satisfies VersionList);
}

function readVersion(digits: string): number {
  const version = parseVersion(digits);
  if (version !== null) return version;
  throw new HttpError("invalid_request", { message: "Query parameter version must be an integer from 1 to 2^53-1." });
}

/** The seal decides about expiry, and no column of the database. @throws {HttpError} `record_expired` */
function refuseExpired(kept: KeptVersion | null, { now }: Services): void {
  if (kept === null) return;
  const head = parseHead(kept.body);
  if (typeof head === "string" || head.expiresAt === 0 || head.expiresAt > now()) return;
  throw new HttpError("record_expired", { current: describe(kept) });
}

/** `PUT R`: writes the version after the expected one, or finds that this very write has already happened. */
export async function putRecord(call: Call, services: Services): Promise<Reply> {
  const expected = expectedVersion(call.headers);
  const version = expected + 1;
  if (version > MAX_VERSION) {
    throw new HttpError("invalid_request", { message: "If-Match names the highest version; there is none after it." });
  }
  const head = readHead(call.body);
  if (head.state !== RecordState.value) authorize(call.principal, "delete", call);
  const purgeEarlier = readPurge(call);
  const store = await services.directory.getStore(call.project, call.store);
  if (store === null) throw new HttpError("not_found");
  const ref = refOf(call);
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const record = await readCurrent(ref, services);
    if ((record?.current.version ?? 0) !== expected) return await replay(call, services, version, record);
    if (record?.current.protected === true && (purgeEarlier || head.state !== RecordState.value)) {
      throw new HttpError("record_protected");
    }
    const operation: WriteOperation = {
      ref,
      expect: record === null ? null : attributesAt(record, expected),
      next: record === null ? { version, protected: false, active: true } : attributesAt(record, version),
      write: { body: call.body, expiresAt: head.expiresAt, createdAt: services.now() },
      purgeEarlier,
      keepVersions: store.maxVersions,
    };
    const result = await services.records.commit([operation]);
    if (result.applied) return writtenReply(version);
  }
  throw new HttpError("overloaded");
}

function attributesAt({ current }: StoredRecord, version: number): RecordAttributes & { version: number } {
  return { version, protected: current.protected, active: current.active };
}

function readPurge({ query }: Call): boolean {
  const purge = query.get("purge");
  if (purge === undefined) return false;
  if (purge === "earlier") return true;
  throw new HttpError("invalid_request", { message: "Query parameter purge can only be earlier." });
}

function readHead(body: Uint8Array): RecordHead {
  const head = body.length < MIN_RECORD_BYTES ? "truncated" : parseHead(body);
  if (typeof head !== "string") return head;
  throw new HttpError("invalid_request", { message: `The body is not a sealed record: its head is ${head}.` });
}

function writtenReply(version: number): Reply {
  return { status: version === 1 ? 201 : 200, headers: { etag: versionTag(version) } };
}

/** A retry after a lost answer finds its own bytes at its own version, and succeeds once more. */
async function replay(call: Call, { records }: Services, version: number, record: StoredRecord | null): Promise<Reply> {
  const [written] = record === null ? [null] : await records.read([{ ...refOf(call), version }]);
  if (written?.kept && Buffer.compare(written.kept.body, call.body) === 0) return writtenReply(version);
  throw conflictWith(record);
}

/** `PATCH R`: changes what the server enforces without reading anything. */
export async function patchRecord(
  call: Call,
  services: Services,
  change: z.output<typeof attributesChange>,
): Promise<Reply> {
  const expected = expectedCurrent(call.headers);
  if (change.protected === false) authorize(call.principal, "manage", call);
  const store = await services.directory.getStore(call.project, call.store);
  if (store === null) throw new HttpError("not_found");
  const ref = refOf(call);
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const record = await readCurrent(ref, services);
    if (record?.current.version !== expected) throw conflictWith(record);
    const expect = attributesAt(record, expected);
    const next = {
      version: expected,
      protected: change.protected ?? expect.protected,
      active: change.active ?? expect.active,
    };
    const result = await services.records.commit([{ ref, expect, next, keepVersions: store.maxVersions }]);
    if (result.applied) {
      const attributes: RecordAttributes = { protected: next.protected, active: next.active };
      return jsonReply(200, attributes, { etag: versionTag(expected) });
    }
  }
  throw new HttpError("overloaded");
}
