/** Holds the reference to every file of spec/vectors, and spec/vectors to what the generator makes. */

import { readFileSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";

import { describe, expect, test } from "vitest";

import { answer, isVectorType, place, type VectorInput } from "./answers.ts";
import { vectorFiles, vectorPath } from "./cases/all.ts";
import { open, seal } from "./reference.ts";
import { fromHex, toBytes, type Vector } from "./vector.ts";

const folder = join(import.meta.dirname, "../../spec/vectors");

function readVectors(): Map<string, Vector> {
  const paths = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => path.endsWith(".json"));
  return new Map(paths.map((path) => [path, JSON.parse(readFileSync(join(folder, path), "utf8")) as Vector]));
}

const vectors = readVectors();

function ofType(type: string): Vector[] {
  return [...vectors.values()].filter((vector) => vector.type === type);
}

describe("the reference gives what every vector expects", () => {
  test.each([...vectors])("%s", (_, vector) => {
    if (!isVectorType(vector.type)) throw new Error(`${vector.type} is no type of vector`);
    expect(answer(vector.type, vector.input as VectorInput<typeof vector.type>)).toEqual(vector.expected);
  });
});

describe("spec/vectors", () => {
  test("holds what the generator makes, and the six given records", () => {
    const generated = [...vectors.keys()].filter((path) => !path.startsWith("record/"));
    expect(generated.sort()).toEqual([...vectorFiles().keys()].sort());
    for (const [path, text] of vectorFiles()) expect(readFileSync(join(folder, path), "utf8")).toBe(text);
    expect(ofType("record").length).toBe(6);
  });

  test.each([...vectors])("%s lies where its type and name say", (path, vector) => {
    expect(vectorPath(vector)).toBe(path);
    expect(Object.keys(vector)).toEqual(["type", "name", "input", "expected"]);
  });

  test.each([...vectors])("%s expects an error if and only if its name says so", (path, vector) => {
    expect(Object.hasOwn(vector.expected as object, "error")).toBe(basename(path).startsWith("refused-"));
  });

  test("gives no two derivations the same key hash, value key or root", () => {
    const derived = ofType("derive").map((vector) => vector.expected as Record<string, string>);
    const accepted = derived.filter((expected) => !Object.hasOwn(expected, "error"));
    const outputs = accepted.flatMap(({ root, keyHash, valueKey }) => [root, keyHash, valueKey]);
    expect(accepted.length).toBeGreaterThan(10);
    expect(new Set(outputs).size).toBe(outputs.length);
  });
});

describe("what is sealed opens", () => {
  test.each(ofType("seal").map((vector) => [vector.name, vector] as const))("%s", (_, vector) => {
    const input = vector.input as VectorInput<"seal">;
    const { record } = vector.expected as { record: string };
    const { state, expiresAt, kind, sealedAt, metadata } = input;
    const value = toBytes(input.value);
    const opened = open(place(input), input.version, fromHex(record));
    expect(opened).toEqual({ state, expiresAt, kind, sealedAt, metadata, value });
  });

  test("up to the greatest value and metadata, and no further", () => {
    const input = ofType("seal").find(({ name }) => name === "metadata of 8192 bytes")?.input as VectorInput<"seal">;
    const sealed = (length: number) =>
      seal(place(input), 1, { ...input, value: Buffer.alloc(length, "v") }, fromHex(input.salt));
    expect(sealed(1_048_576).length).toBe(1_081_435);
    expect(open(place(input), 1, sealed(1_048_576)).value.length).toBe(1_048_576);
    expect(() => open(place(input), 1, sealed(1_048_577))).toThrow("record_open");
    expect(() => open(place(input), 1, sealed(1_081_344))).toThrow("unsupported_format");
  });

  test("with no byte of the record changed", () => {
    const input = ofType("seal").find(({ name }) => name === "text")?.input as VectorInput<"seal">;
    const record = seal(place(input), 1, { ...input, value: toBytes(input.value) }, fromHex(input.salt));
    for (let index = 0; index < record.length; index++) {
      const changed = Buffer.from(record);
      changed.writeUInt8(changed.readUInt8(index) ^ 0x80, index);
      const code = index < 2 ? "unsupported_format" : "record_open";
      expect(() => open(place(input), 1, changed), `byte ${index}`).toThrow(code);
    }
  });
});
