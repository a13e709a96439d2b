/** The lines that the files of a backup are made of; spec/envelope.md § Lines. */

import { hash } from "node:crypto";

import {
  ADMINISTRATION,
  KEYS,
  RECORD,
  VERSION,
  type AdministrationTable,
  type ColumnKind,
  type KeysTable,
  type PortableRow,
  type PortableTable,
  type PortableValue,
  type RecordRow,
  type VersionRow,
} from "../storage/portable.js";
import type { RecordRef } from "../storage/record-store.js";
import type { RecordSummary } from "../storage/snapshot.js";

export const FORMAT = "tacenda-backup/1";
/** Bytes of a line's check. */
const CHECK_BYTES = 6;
/** `,"check":"` and eight characters and `"}`. */
const CHECK_LENGTH = 10 + 8 + 2;

const GONE: AnyTable = { columns: { project: "text", store: "text", record_id: "bytes" } };

export type Content = "records" | "keys";
export type RowType = AdministrationTable | KeysTable;
export type LineType = "header" | "run" | "record" | "body" | "gone" | RowType | "end";

/** The first line of a file. */
export interface Header {
  format: typeof FORMAT;
  content: Content;
  /** State of the tables that the rows are of. */
  schema: string;
  /** When the first run began; RFC 3339. */
  begunAt: string;
}

/** The last line of a file. */
export interface End {
  /** When the state was current that the file holds; RFC 3339. */
  asOf: string;
  /** Lines before this one. */
  lines: number;
  /** SHA-256 over all lines before this one, hexadecimal. */
  sha256: string;
  /** In the file of records: records and versions that it holds in the end, and the SHA-256 of the file of keys. */
  records?: number;
  versions?: number;
  keys?: string;
}

/** A table whose columns are data. */
interface AnyTable {
  columns: Readonly<Record<string, ColumnKind>>;
  absent?: object;
}

/** A line that was read: its type, and its value as JSON text. */
export interface Line {
  type: LineType;
  value: string;
}

/** `{"type":value,"check":"…"}` and a line feed. `value` is JSON. */
export function encodeLine(type: LineType, value: string): Buffer {
  const text = `{"${type}":${value}`;
  return Buffer.from(`${text},"check":"${checkOf(Buffer.from(text))}"}\n`);
}

/** The line in these bytes, without its line feed; null when they are none, or do not fit their check. */
export function decodeLine(bytes: Buffer): Line | null {
  const end = bytes.length - CHECK_LENGTH;
  if (end < 0 || bytes.toString("latin1", end) !== `,"check":"${checkOf(bytes.subarray(0, end))}"}`) return null;
  const text = bytes.toString("utf8", 0, end);
  const type = /^\{"([a-z_]+)":/.exec(text)?.[1];
  return type !== undefined && isLineType(type) ? { type, value: text.slice(type.length + 4) } : null;
}

/** A record without the bodies of its versions, as JSON. Equal texts are equal records, bodies included. */
export function encodeRecord({ versions, ...record }: RecordSummary): string {
  const rows = versions.map((version) => encodeRow(VERSION, version)).join(",");
  return `${encodeRow(RECORD, record).slice(0, -1)},"versions":[${rows}]}`;
}

/** Null when the text is no record. */
export function decodeRecord(value: string): RecordSummary | null {
  const json = parse(value);
  if (!isObject(json)) return null;
  const { versions, ...row } = json;
  if (!Array.isArray(versions)) return null;
  const record = toRow(RECORD, row) as RecordRow | null;
  const kept = versions.map((version) => toRow(VERSION, version) as VersionRow | null);
  return record && kept.every((version) => version !== null) ? { ...record, versions: kept } : null;
}

/** What stands for a record that vanished between two runs. */
export function encodeGone({ project, store, id }: RecordRef): string {
  return JSON.stringify({ project, store, record_id: toText(id) });
}

/** Null when the text is none. */
export function decodeGone(value: string): RecordRef | null {
  const { project, store, record_id: id } = toRow(GONE, parse(value)) ?? {};
  const isRef = typeof project === "string" && typeof store === "string" && id instanceof Uint8Array;
  return isRef ? { project, store, id } : null;
}

/** The bytes as a JSON string. */
export function encodeBody(body: Uint8Array): string {
  return `"${toText(body)}"`;
}

/** Null when the text is no JSON string of canonical base64url. */
export function decodeBody(value: string): Uint8Array | null {
  return value.length >= 2 ? fromText(value.slice(1, -1)) : null;
}

/** A row as JSON, its columns in the order in which they are declared. */
export function encodeRow({ columns }: { columns: object }, row: object): string {
  const given = row as PortableRow;
  const values = Object.keys(columns).map((column) => {
    const value = given[column];
    return [column, value instanceof Uint8Array ? toText(value) : value];
  });
  return JSON.stringify(Object.fromEntries(values));
}

/** Null when the text is no row of this table, and of this table alone. */
export function decodeRow<Row>(table: PortableTable<Row>, value: string): Row | null {
  return toRow(table, parse(value)) as Row | null;
}

/** A row of a table that the lines of this type are of. */
export function decodeRowOf(type: RowType, value: string): PortableRow | null {
  const tables: Readonly<Record<RowType, AnyTable>> = { ...ADMINISTRATION, ...KEYS };
  return toRow(tables[type], parse(value));
}

/** The value of a header, a run or an end. Its fields are checked where they are used. */
export function decodeObject(value: string): Readonly<Record<string, unknown>> | null {
  const json = parse(value);
  return isObject(json) ? json : null;
}

export function isRowType(type: string, content: Content): type is RowType {
  return Object.hasOwn(content === "records" ? ADMINISTRATION : KEYS, type);
}

function isLineType(type: string): type is LineType {
  return ["header", "run", "record", "body", "gone", "end"].includes(type) || type in ADMINISTRATION || type in KEYS;
}

function checkOf(text: Buffer): string {
  return hash("sha256", text, "buffer").subarray(0, CHECK_BYTES).toString("base64url");
}

/** Null when it has not exactly the columns of the table, each of its kind. */
function toRow({ columns, absent }: AnyTable, json: unknown): PortableRow | null {
  if (!isObject(json) || Object.keys(json).some((name) => !Object.hasOwn(columns, name))) return null;
  const defaults: Readonly<Record<string, PortableValue | undefined>> = { ...absent };
  const row: Record<string, PortableValue> = {};
  for (const [column, kind] of Object.entries(columns)) {
    const value = Object.hasOwn(json, column) ? toValue(kind, json[column]) : defaults[column];
    if (value === undefined) return null;
    row[column] = value;
  }
  return row;
}

/** Undefined when the value is not of this kind. */
function toValue(kind: ColumnKind, value: unknown): PortableValue | undefined {
  if (value === null) return kind.endsWith("?") ? null : undefined;
  switch (kind) {
    case "integer":
    case "integer?":
      return Number.isSafeInteger(value) ? (value as number) : undefined;
    case "text":
    case "text?":
      return typeof value === "string" ? value : undefined;
    case "bytes":
    case "bytes?":
      return typeof value === "string" ? (fromText(value) ?? undefined) : undefined;
  }
}

function toText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64url");
}

/** Node's decoder, for it is fast; encoding again shows whether the text was canonical. */
function fromText(text: string): Uint8Array | null {
  const bytes = Buffer.from(text, "base64url");
  return bytes.toString("base64url") === text ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length) : null;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isObject(json: unknown): json is Readonly<Record<string, unknown>> {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}
