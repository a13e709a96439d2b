/** Which rows of versions belong to a record: others are left from before, and wait to be purged. */

import type { JoinBuilder } from "kysely";

import type { Schema } from "./schema.js";

/** The tables of records and of their versions, by their short names in queries. */
interface RecordTables {
  r: Schema["records"];
  v: Schema["record_versions"];
}

/** Joins the versions `v` that a record `r` keeps. */
export function onKept(join: JoinBuilder<RecordTables, "r" | "v">): JoinBuilder<RecordTables, "r" | "v"> {
  return join
    .onRef("v.project", "=", "r.project")
    .onRef("v.store", "=", "r.store")
    .onRef("v.record_id", "=", "r.record_id")
    .onRef("v.version", ">=", "r.kept_from")
    .onRef("v.version", "<=", "r.version");
}
