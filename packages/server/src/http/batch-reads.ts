/** The answer to a batch of reads, within its bound; spec/http.md § Batch. */

import { MAX_BATCH_BYTES, type BatchReadResult } from "@tacenda/protocol";
import type { z } from "zod";

import { DamagedRecordError } from "../envelope/errors.js";
import type { ReadRef, RecordStore, StoredRecord } from "../storage/record-store.js";
import type { Call, Services } from "./call.js";
import { READ_STEP, betweenSteps, describeVersion, judgeRead } from "./record-rules.js";
import type { Reply } from "./reply.js";
import type { batchRead } from "./schemas.js";

type Read = z.output<typeof batchRead>;
/** A record as it was found, or what is said of one that does not verify. */
type Found = StoredRecord | null | "damaged";

const OPENING = '{"results":[';
const CLOSING = "]}";
const FETCH_SINGLY = JSON.stringify({ status: "fetch_singly" } satisfies BatchReadResult);

/** Each read as of one committed state. The answer is ASCII, so that its length is its bytes. */
export async function answerReads(reads: readonly Read[], call: Call, services: Services): Promise<Reply> {
  const results: string[] = [];
  // Room beyond what it takes to answer "fetch_singly" to every read.
  let room = MAX_BATCH_BYTES - OPENING.length - CLOSING.length - reads.length * (FETCH_SINGLY.length + 1);
  for (let start = 0; start < reads.length && room >= 0; start += READ_STEP) {
    await betweenSteps(start);
    for (const result of await readStep(reads.slice(start, start + READ_STEP), call, services)) {
      const text = JSON.stringify(result);
      room -= text.length - FETCH_SINGLY.length;
      if (room < 0) break;
      results.push(text);
    }
  }
  while (results.length < reads.length) results.push(FETCH_SINGLY);
  const body = OPENING + results.join(",") + CLOSING;
  return { status: 200, headers: { "content-type": "application/json" }, body };
}

async function readStep(
  reads: readonly Read[],
  { project, store }: Call,
  { records, now }: Services,
): Promise<BatchReadResult[]> {
  const refOf = ({ key }: Read) => ({ project, store, id: Buffer.from(key, "base64url") });
  const asked = reads.flatMap((read) =>
    read.version === undefined ? [] : [{ ...refOf(read), version: read.version }],
  );
  const found = await readEach([...reads.map(refOf), ...asked], records);
  let next = reads.length;
  return reads.map(({ version }, index) => {
    const record = found[index] ?? null;
    return describe(record, version === undefined ? record : (found[next++] ?? null), now());
  });
}

/** Like `RecordStore.read`, but a record that does not verify is told apart instead of spoiling the others. */
async function readEach(refs: readonly ReadRef[], records: RecordStore): Promise<Found[]> {
  try {
    return await records.read(refs);
  } catch (error) {
    if (!(error instanceof DamagedRecordError)) throw error;
    const damaged = new Set(error.positions);
    const sound = await readEach(
      refs.filter((_, position) => !damaged.has(position)),
      records,
    );
    let next = 0;
    return refs.map((_, position) => (damaged.has(position) ? "damaged" : (sound[next++] ?? null)));
  }
}

/** `wanted` is the version asked for, of the same record. */
function describe(record: Found, wanted: Found, now: number): BatchReadResult {
  if (record === "damaged" || wanted === "damaged") return { status: "damaged" };
  if (record === null) return { status: "absent" };
  const reading = judgeRead(record, wanted?.kept ?? null, now);
  switch (reading.status) {
    case "absent":
    case "inactive":
      return { status: reading.status };
    case "expired":
      return { status: "expired", current: describeVersion(reading.kept) };
    case "record": {
      const { version, body, createdAt } = reading.kept;
      const record64 = Buffer.from(body.buffer, body.byteOffset, body.length).toString("base64url");
      return { status: "record", version, record: record64, createdAt, protected: record.current.protected };
    }
  }
}
