/** Lines: what is written is read back, and nothing else is; spec/envelope.md § Lines. */

import { randomBytes } from "node:crypto";

import { describe, expect, test } from "vitest";

import {
  decodeBody,
  decodeGone,
  decodeLine,
  decodeRecord,
  decodeRow,
  decodeRowOf,
  encodeBody,
  encodeGone,
  encodeLine,
  encodeRecord,
  encodeRow,
} from "../../src/backup/format.js";
import { ADMINISTRATION, KEYS, RECORD, type PortableTable } from "../../src/storage/portable.js";
import type { Schema } from "../../src/storage/schema.js";
import type { RecordSummary } from "../../src/storage/snapshot.js";

const bytes = (length: number) => new Uint8Array(randomBytes(length));
const RECORD_ROW: RecordSummary = {
  project: "p",
  store: "s",
  record_id: bytes(32),
  version: 2 ** 53 - 1,
  protected: 0,
  active: 1,
  tag: bytes(32),
  kept_from: 3,
  versions: [{ version: 3, key_version: 1, created_at: 5, expires_at: 0, size: 7 }],
};

describe("a line", () => {
  test("is read back", () => {
    const line = encodeLine("tokens", '{"name":"Schlüssel\\n"}');
    expect(line.toString()).toMatch(/^\{"tokens":\{"name":"Schlüssel\\n"\},"check":"[\w-]{8}"\}\n$/);
    expect(decodeLine(line.subarray(0, -1))).toEqual({ type: "tokens", value: '{"name":"Schlüssel\\n"}' });
  });

  test("with any bit changed, or cut anywhere, is none", () => {
    const line = encodeLine("tokens", '{"name":"Schlüssel"}').subarray(0, -1);
    for (let bit = 0; bit < line.length * 8; bit++) {
      const changed = Buffer.from(line);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(decodeLine(changed), `bit ${bit}`).toBeNull();
    }
    for (let length = 0; length < line.length; length++) expect(decodeLine(line.subarray(0, length))).toBeNull();
  });

  test("of an unknown type is none", () => {
    const line = encodeLine("leases" as "tokens", "{}");
    expect(decodeLine(line.subarray(0, -1))).toBeNull();
  });
});

describe("values", () => {
  test("a record, its text the same for the same record alone", () => {
    const text = encodeRecord(RECORD_ROW);
    expect(decodeRecord(text)).toEqual(RECORD_ROW);
    const [version] = RECORD_ROW.versions;
    for (const change of [
      { version: 1 },
      { protected: 1 },
      { active: 0 },
      { tag: bytes(32) },
      { tag: null },
      { kept_from: 4 },
      { versions: [] },
      { versions: version ? [{ ...version, key_version: 2 }] : [] },
      { versions: version ? [{ ...version, expires_at: 2 }] : [] },
      { versions: version ? [{ ...version, size: 8 }] : [] },
    ]) {
      const changed = encodeRecord({ ...RECORD_ROW, ...change });
      expect(changed).not.toBe(text);
      expect(decodeRecord(changed)).toEqual({ ...RECORD_ROW, ...change });
    }
    expect(decodeRecord("{}")).toBeNull();
    expect(decodeRecord("[")).toBeNull();
    expect(decodeRecord(text.replace('"versions"', '"version_s"'))).toBeNull();
  });

  test("a record that is gone, and a body", () => {
    const ref = { project: "p", store: "s", id: bytes(32) };
    expect(decodeGone(encodeGone(ref))).toEqual(ref);
    expect(decodeGone("{}")).toBeNull();
    const body = bytes(100);
    expect(decodeBody(encodeBody(body))).toEqual(body);
    expect(decodeBody(encodeBody(new Uint8Array(0)))).toEqual(new Uint8Array(0));
    for (const text of ['"QR"', '"QQ=="', '"+/"', "1", '"']) expect(decodeBody(text), text).toBeNull();
  });

  test("a row has exactly the columns of its table, each of its kind", () => {
    const table: PortableTable<Schema["secret_checks"]> = ADMINISTRATION.secret_checks;
    const row = { project: "p", store: "s", slot: 1, digest: bytes(32), created_at: 5 };
    const good = JSON.parse(encodeRow(table, row)) as Record<string, unknown>;
    expect(decodeRow(table, JSON.stringify(good))).toEqual(row);
    expect(decodeRowOf("secret_checks", JSON.stringify(good))).toEqual(row);
    for (const change of [
      { slot: "1" },
      { slot: 1.5 },
      { slot: 2 ** 53 },
      { slot: null },
      { slot: undefined },
      { digest: 1 },
      { digest: "QR" },
      { project: null },
      { more: 1 },
      { constructor: 1 },
    ]) {
      const text = JSON.stringify({ ...good, ...change });
      expect(decodeRow(table, text), text).toBeNull();
    }
    expect(decodeRow(table, `{"__proto__":1,${JSON.stringify(good).slice(1)}`)).toBeNull();
    expect(decodeRow(RECORD, "null")).toBeNull();
  });

  test("a column that was added later may be absent, and has its value then", () => {
    interface Row {
      name: string;
      added: number;
    }
    const table: PortableTable<Row> = {
      key: ["name"],
      columns: { name: "text", added: "integer" },
      absent: { added: 0 },
    };
    expect(decodeRow(table, '{"name":"a"}')).toEqual({ name: "a", added: 0 });
    expect(decodeRow(table, '{"name":"a","added":4}')).toEqual({ name: "a", added: 4 });
    expect(decodeRow(table, '{"added":4}')).toBeNull();
  });

  test("no table holds a master key: what is kept of keys is wrapped", () => {
    expect(Object.keys(KEYS)).toEqual(["store_keys"]);
    expect(Object.keys(ADMINISTRATION)).not.toContain("store_keys");
  });
});
