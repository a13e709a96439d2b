/** Handlers of records; spec/http.md § Records. They read the 75-byte head of a record and nothing more. */

import {
  HEADERS,
  MAX_VERSION,
  RECORD_MEDIA_TYPE,
  RecordState,
  parseVersion,
  versionTag,
  type RecordAttributes,
  type VersionList,
} from "@tacenda/protocol";
import type { z } from "zod";

import { authorize } from "../auth/authorize.js";
import { measure } from "../quotas/byte-quota.js";
import type { RecordRef, StoredRecord } from "../storage/record-store.js";
import type { Call, Services } from "./call.js";
import { HttpError } from "./http-error.js";
import { expectedCurrent, expectedVersion, matchesTag } from "./preconditions.js";
import { MAX_ATTEMPTS, describeVersion, isMoved, judgeRead, readHead, toOperation } from "./record-rules.js";
import { jsonReply, type Reply } from "./reply.js";
import type { attributesChange } from "./schemas.js";
import { confirm, untilCertain } from "./uncertain-writes.js";

function refOf({ project, store, keyHash }: Call): RecordRef {
  return { project, store, id: keyHash };
}

async function readCurrent(ref: RecordRef, { records }: Services): Promise<StoredRecord | null> {
  const [record] = await records.read([ref]);
  return record ?? null;
}

function conflictWith(record: StoredRecord | null): HttpError {
  return new HttpError("version_conflict", { current: record?.kept ? describeVersion(record.kept) : null });
}

/** `GET R`: the bytes of the current version, or of `?version=n`. */
export async function getRecord(call: Call, services: Services): Promise<Reply> {
  const ref = refOf(call);
  const asked = call.query.get("version");
  const [record, earlier] = await services.records.read(
    asked === undefined ? [ref] : [ref, { ...ref, version: readVersion(asked) }],
  );
  if (!record) throw new HttpError("record_not_found");
  const reading = judgeRead(record, asked === undefined ? record.kept : (earlier?.kept ?? null), services.now());
  if (reading.status === "absent") throw new HttpError("record_not_found");
  if (reading.status === "inactive") throw new HttpError("record_inactive");
  const { kept } = reading;
  if (reading.status === "expired") throw new HttpError("record_expired", { current: describeVersion(kept) });
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

/** `PUT R`: writes the version after the expected one, or finds that this very write has already happened. */
export async function putRecord(call: Call, services: Services): Promise<Reply> {
  const expected = expectedVersion(call.headers);
  const version = expected + 1;
  if (version > MAX_VERSION) {
    throw new HttpError("invalid_request", { message: "If-Match names the highest version; there is none after it." });
  }
  const head = readHead(call.body, "The body");
  if (head.state !== RecordState.value) authorize(call.principal, "delete", call);
  const purgeEarlier = readPurge(call);
  const store = await services.settings.get(call.project, call.store);
  if (store === null) throw new HttpError("not_found");
  const ref = refOf(call);
  const quota = services.quotas.of(call.project);
  return await untilCertain(async () => {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      // A first write need not look: the commit finds what is there. A quota is to be told of after that.
      const isFirst = expected === 0 && attempt === 0 && quota === undefined;
      const record = isFirst ? null : await readCurrent(ref, services);
      if ((record?.current.version ?? 0) !== expected || isMoved(record?.kept)) {
        if (await isReplay(call, services, version, record)) return writtenReply(version);
        continue;
      }
      const write = { ref, body: call.body, head, purgeEarlier };
      const now = services.now();
      const operation = toOperation(write, record?.current ?? null, store, now);
      const adds = quota?.admit([{ ...write, before: measure(record) }], store.maxVersions) ?? 0;
      const result = await services.records.commit([operation]);
      if (result.applied) {
        quota?.add(adds, now);
        if (purgeEarlier) services.purgeDestroyed();
        return writtenReply(version);
      }
    }
    throw new HttpError("overloaded");
  });
}

function readPurge({ query }: Call): boolean {
  const purge = query.get("purge");
  if (purge === undefined) return false;
  if (purge === "earlier") return true;
  throw new HttpError("invalid_request", { message: "Query parameter purge can only be earlier." });
}

function writtenReply(version: number): Reply {
  return { status: version === 1 ? 201 : 200, headers: { etag: versionTag(version) } };
}

/**
 * A retry after a lost answer finds its own bytes at its own version, and succeeds once more. False: the record is another by
 * now.
 * @throws {HttpError} `version_conflict` when they are not there.
 */
async function isReplay(
  call: Call,
  { records }: Services,
  version: number,
  record: StoredRecord | null,
): Promise<boolean> {
  const ref = refOf(call);
  const [written] = record === null ? [null] : await records.read([{ ...ref, version }]);
  if (!written?.kept || Buffer.compare(written.kept.body, call.body) !== 0) throw conflictWith(record);
  return await confirm(records, [{ ref, current: written.current }]);
}

/** `PATCH R`: changes what the server enforces without reading anything. */
export async function patchRecord(
  call: Call,
  services: Services,
  change: z.output<typeof attributesChange>,
): Promise<Reply> {
  const expected = expectedCurrent(call.headers);
  if (change.protected === false) authorize(call.principal, "manage", call);
  const store = await services.settings.get(call.project, call.store);
  if (store === null) throw new HttpError("not_found");
  const ref = refOf(call);
  return await untilCertain(async () => {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const record = await readCurrent(ref, services);
      if (record?.current.version !== expected) throw conflictWith(record);
      const expect = record.current;
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
  });
}
