/** Handler of batches: many reads, or writes of which all happen or none; spec/http.md § Batch. */

import type { z } from "zod";

import {
  RecordState,
  MAX_RECORD_BYTES,
  type BatchAnswer,
  type BatchWriteResult,
  type Conflict,
} from "@tacenda/protocol";

import { authorize } from "../auth/authorize.js";
import { measure, type PresentVersion } from "../quotas/byte-quota.js";
import type * as storage from "../storage/record-store.js";
import { answerReads } from "./batch-reads.js";
import type { Call, Services } from "./call.js";
import { HttpError } from "./http-error.js";
import {
  MAX_ATTEMPTS,
  READ_STEP,
  betweenSteps,
  describeVersion,
  isMoved,
  readHead,
  toOperation,
  type RecordWrite,
} from "./record-rules.js";
import { jsonReply, type Reply } from "./reply.js";
import type { batchRequest, batchWrite } from "./schemas.js";
import { confirm, untilCertain, type Seen } from "./uncertain-writes.js";

interface BatchedWrite extends RecordWrite {
  /** The version that must be current; 0: none. */
  expect: number;
}

/** A record before the batch's write of it. */
interface Before {
  current: storage.RecordState | null;
  conflict: Conflict["current"];
  /** Nothing may be written over it. */
  moved: boolean;
  /** Null as well where nobody asks: in projects without a bound on their bytes. */
  present: PresentVersion | null;
}

/** `POST S/batch`. The route needs `read` or `write`; what each operation needs is decided here. */
export async function batch(
  call: Call,
  services: Services,
  { reads, writes }: z.output<typeof batchRequest>,
): Promise<Reply> {
  services.rateLimit?.takeMore(call.principal, (reads ?? writes ?? []).length - 1);
  if (reads !== undefined) {
    authorize(call.principal, "read", call);
    return await answerReads(reads, call, services);
  }
  return await write(
    (writes ?? []).map((item, index) => readWrite(item, index, call)),
    call,
    services,
  );
}

function readWrite(item: z.output<typeof batchWrite>, index: number, { project, store }: Call): BatchedWrite {
  const name = `Field writes.${index}.record`;
  const body = Buffer.from(item.record, "base64url");
  // Node decodes leniently: only what encodes to the same text again is canonical.
  if (body.toString("base64url") !== item.record) {
    throw new HttpError("invalid_request", { message: `${name} must be canonical base64url.` });
  }
  if (body.length > MAX_RECORD_BYTES) {
    throw new HttpError("invalid_request", { message: `${name} is longer than a sealed record can be.` });
  }
  return {
    ref: { project, store, id: Buffer.from(item.key, "base64url") },
    body,
    head: readHead(body, name),
    purgeEarlier: item.purge === "earlier",
    expect: item.expect,
  };
}

async function write(writes: readonly BatchedWrite[], call: Call, services: Services): Promise<Reply> {
  authorize(call.principal, "write", call);
  if (writes.some(({ head }) => head.state !== RecordState.value)) authorize(call.principal, "delete", call);
  const store = await services.settings.get(call.project, call.store);
  if (store === null) throw new HttpError("not_found");
  const quota = services.quotas.of(call.project);
  return await untilCertain(async () => {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const before = await readBefore(writes, quota !== undefined, services);
      const conflicts = findConflicts(writes, before);
      if (conflicts.length > 0) {
        const seen = await happened(writes, services);
        if (seen === null) throw new HttpError("version_conflict", { conflicts });
        if (await confirm(services.records, seen)) return writtenReply(writes);
        continue;
      }
      const now = services.now();
      const operations = writes.map((item, index) => toOperation(item, before[index]?.current ?? null, store, now));
      const measured = (item: BatchedWrite, index: number) => ({ ...item, before: before[index]?.present ?? null });
      const adds = quota?.admit(writes.map(measured), store.maxVersions) ?? 0;
      const result = await services.records.commit(operations);
      if (result.applied) {
        quota?.add(adds, now);
        if (writes.some(({ purgeEarlier }) => purgeEarlier)) services.purgeDestroyed();
        return writtenReply(writes);
      }
    }
    throw new HttpError("overloaded");
  });
}

async function readBefore(writes: readonly BatchedWrite[], measures: boolean, services: Services): Promise<Before[]> {
  const before: Before[] = [];
  for (let start = 0; start < writes.length; start += READ_STEP) {
    await betweenSteps(start);
    const refs = writes.slice(start, start + READ_STEP).map(({ ref }) => ref);
    for (const record of await services.records.read(refs)) {
      const conflict = record?.kept ? describeVersion(record.kept) : null;
      const present = measures ? measure(record) : null;
      before.push({ current: record?.current ?? null, conflict, moved: isMoved(record?.kept), present });
    }
  }
  return before;
}

function findConflicts(writes: readonly BatchedWrite[], before: readonly Before[]): Conflict[] {
  return before.flatMap(({ current, conflict, moved }, index) =>
    (current?.version ?? 0) === writes[index]?.expect && !moved ? [] : [{ index, current: conflict }],
  );
}

/** When every write finds its own bytes at its own version this is a retry after a lost answer: the records as they are. Else null. */
async function happened(writes: readonly BatchedWrite[], services: Services): Promise<Seen[] | null> {
  const seen: Seen[] = [];
  for (let start = 0; start < writes.length; start += READ_STEP) {
    await betweenSteps(start);
    const step = writes.slice(start, start + READ_STEP);
    const found = await services.records.read(step.map(({ ref, expect }) => ({ ...ref, version: expect + 1 })));
    for (const [index, { ref, body }] of step.entries()) {
      const record = found[index];
      if (!record?.kept || Buffer.compare(record.kept.body, body) !== 0) return null;
      seen.push({ ref, current: record.current });
    }
  }
  return seen;
}

function writtenReply(writes: readonly BatchedWrite[]): Reply {
  const results = writes.map(({ expect }) => ({ version: expect + 1 }));
  return jsonReply(200, { results } satisfies BatchAnswer<BatchWriteResult>);
}
