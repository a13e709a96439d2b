import { expect, test } from "vitest";

import * as sdk from "../src/index.js";
import { ConflictError, TacendaError } from "../src/errors.js";

type ErrorClass = new (message: string, options: { currentVersion: number }) => TacendaError;

test("every error has a code of its own, and the name of its class", () => {
  const errors = Object.values<unknown>(sdk)
    .filter((value): value is ErrorClass => typeof value === "function" && value.prototype instanceof TacendaError)
    .map((Class) => new Class("what to do", { currentVersion: 1 }));
  expect(errors.length).toBeGreaterThan(20);
  expect(new Set(errors.map((error) => error.code)).size).toBe(errors.length);
  for (const error of errors) {
    expect(error.name).toMatch(/Error$/);
    expect(TacendaError.is(error, error.code)).toBe(true);
    expect(TacendaError.is(error, error.code === "conflict" ? "rollback" : "conflict")).toBe(false);
  }
});

test("is() knows errors of a duplicate copy of the package, and nothing else", () => {
  const foreign = Object.defineProperty(
    Object.assign(new Error("x"), { code: "conflict" }),
    Symbol.for("@tacenda/sdk/error"),
    {
      value: true,
    },
  );
  expect(foreign instanceof ConflictError).toBe(false);
  expect(TacendaError.is(foreign, "conflict")).toBe(true);
  for (const other of [null, undefined, "conflict", new Error("x"), { code: "conflict" }]) {
    expect(TacendaError.is(other)).toBe(false);
  }
});
