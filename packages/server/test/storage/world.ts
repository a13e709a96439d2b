/** What the storage tests write: records with random ids, stores, tokens. */

import { randomBytes } from "node:crypto";

import type { Store } from "@tacenda/protocol";

import type { Database } from "../../src/storage/database.js";
import type { TokenRow } from "../../src/storage/directory.js";
import type { WrappedKey } from "../../src/storage/store-key.js";
import type { KeptVersion, RecordRef, RecordState, WriteOperation } from "../../src/storage/record-store.js";

/** A database that a test can close and open again. */
export interface TestDatabase {
  open(): Promise<Database>;
  remove(): Promise<void>;
}

export const PLAIN = { protected: false, active: true };

export function bytes(length: number): Uint8Array {
  return new Uint8Array(randomBytes(length));
}

export function newRef(project = "p", store = "s"): RecordRef {
  return { project, store, id: bytes(32) };
}

/** A write of `version` over the version before it; 1 creates. */
export function write(ref: RecordRef, version: number, more: Partial<WriteOperation> = {}): WriteOperation {
  return {
    ref,
    expect: version === 1 ? null : { version: version - 1, ...PLAIN },
    next: { version, ...PLAIN },
    write: { body: bytes(100), createdAt: 1_000 + version, expiresAt: 0 },
    keepVersions: 10,
    ...more,
  };
}

/** Writes versions 1 to `last`, one commit each. */
export async function writeVersions(db: Database, ref: RecordRef, last: number): Promise<WriteOperation[]> {
  const operations = Array.from({ length: last }, (_, index) => write(ref, index + 1));
  for (const operation of operations) await db.records.commit([operation]);
  return operations;
}

/** The same with bodies of 300,000 bytes, all of them kept. */
export async function writeLarge(db: Database, ref: RecordRef, last: number): Promise<void> {
  const body = bytes(300_000);
  for (let version = 1; version <= last; version++) {
    const large = { body, createdAt: 1, expiresAt: 0 };
    await db.records.commit([write(ref, version, { write: large, keepVersions: 1_000 })]);
  }
}

export async function currentOf(db: Database, ref: RecordRef): Promise<RecordState | null> {
  return (await db.records.read([ref]))[0]?.current ?? null;
}

export async function keptOf(db: Database, ref: RecordRef, version?: number): Promise<KeptVersion | null> {
  const [record] = await db.records.read([version === undefined ? ref : { ...ref, version }]);
  return record?.kept ?? null;
}

/** Which of the versions 1 to `last` are kept. */
export async function keptVersions(db: Database, ref: RecordRef, last: number): Promise<number[]> {
  const refs = Array.from({ length: last }, (_, index) => ({ ...ref, version: index + 1 }));
  const records = await db.records.read(refs);
  return records.flatMap((record) => (record?.kept ? [record.kept.version] : []));
}

export function newStore(id: string): Store {
  return { id, createdAt: 5, secrets: "one", maxVersions: 10 };
}

export function wrappedKey(purpose: WrappedKey["purpose"], more: Partial<WrappedKey> = {}): WrappedKey {
  return {
    purpose,
    version: 1,
    state: "active",
    provider: "local:a",
    masterVersion: 1,
    wrapped: bytes(60),
    createdAt: 5,
    ...more,
  };
}

/** Makes project `p` and in it store `s` with an index key and data key 1. */
export async function createStore(db: Database, project = "p", store = "s"): Promise<void> {
  await db.directory.createProject({ id: project, createdAt: 1 });
  await db.directory.createStore(project, newStore(store), [wrappedKey("index"), wrappedKey("data")]);
}

export function newToken(id: string, more: Partial<TokenRow> = {}): TokenRow {
  return {
    id,
    project: "p",
    name: `token ${id}`,
    digest: bytes(32),
    grants: [{ stores: ["*"], permissions: ["read"] }],
    createdAt: 10,
    expiresAt: null,
    mintedBy: null,
    ...more,
  };
}
