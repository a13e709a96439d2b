/** Queries compiled once and run with fresh values: Kysely's builder costs more than SQLite's answer to a hot query. */

import { sql, type Compilable, type CompiledQuery, type RawBuilder } from "kysely";

import type { RecordRef } from "./record-store.js";

/** Takes the place of a value in a query; `get` finds the value when the query is run. */
export type Slot<Input> = <T>(get: (input: Input) => T) => RawBuilder<T>;

/** A compiled query that waits for its values. */
export type Prepared<Input, Row> = (input: Input) => CompiledQuery<Row>;

/** Marks, in a compiled query's parameters, where a value goes. */
class Gap<Input> {
  readonly get: (input: Input) => unknown;
  constructor(get: (input: Input) => unknown) {
    this.get = get;
  }
}

/** Compiles the query that `build` makes with slots in place of values. */
export function prepare<Input, Row>(build: (slot: Slot<Input>) => Compilable<Row>): Prepared<Input, Row> {
  const compiled = build((get) => sql`${new Gap(get)}`).compile();
  const fill = compiled.parameters.map((parameter) =>
    parameter instanceof Gap ? (parameter as Gap<Input>).get : (): unknown => parameter,
  );
  return (input) => ({ ...compiled, parameters: fill.map((get) => get(input)) });
}

/** A record's key columns, as the values of a row or, by `eb.and`, as the condition on one. */
export function recordKey<Input>(slot: Slot<Input>, refOf: (input: Input) => RecordRef) {
  return {
    project: slot((input) => refOf(input).project),
    store: slot((input) => refOf(input).store),
    record_id: slot((input) => refOf(input).id),
  };
}
