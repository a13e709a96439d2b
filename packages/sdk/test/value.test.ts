import { describe, expect, test } from "vitest";

import { ConfigurationError, InvalidKeyError, InvalidValueError, ValueTooLargeError } from "../src/errors.js";
import { checkKey, namingPattern, payloadOf } from "../src/value.js";

describe("keys", () => {
  test.each(["k", "github:42", "clé/ключ/鍵 🔑", "\0", "k".repeat(1_024), "🔑".repeat(256)])("%j is a key", (key) => {
    expect(checkKey(key)).toBe(key);
  });

  test.each(["", "k".repeat(1_025), "🔑".repeat(257), "\ud800", "a\udc00b", 42, null, undefined])(
    "%j is none",
    (key) => {
      expect(() => checkKey(key as string)).toThrow(InvalidKeyError);
    },
  );
});

describe("a naming rule", () => {
  const env = namingPattern("env");

  test.each(["A", "DATABASE_URL", "A1_", `A${"B".repeat(254)}`])("env takes %s", (key) => {
    expect(checkKey(key, env)).toBe(key);
  });

  test.each(["a", "1A", "_A", "A-B", "A B", "A\n", `A${"B".repeat(255)}`, "É"])("env refuses %j", (key) => {
    expect(() => checkKey(key, env)).toThrow(InvalidKeyError);
  });

  test("of the caller's own may be any pattern, and forgets nothing between two keys", () => {
    const naming = namingPattern(/^user:\d+$/gi);
    for (const key of ["user:1", "USER:2", "user:3"]) expect(checkKey(key, naming)).toBe(key);
    expect(() => checkKey("user:x", naming)).toThrow(InvalidKeyError);
    expect(() => namingPattern("upper" as "env")).toThrow(ConfigurationError);
  });

  test("adds to the format's own rules, and takes nothing from them", () => {
    expect(() => checkKey("", namingPattern(/^.*$/))).toThrow(InvalidKeyError);
    expect(() => checkKey("\ud800", namingPattern(/./))).toThrow(InvalidKeyError);
  });
});

describe("values", () => {
  test("bytes are copied, so that the caller may go on using them", () => {
    const bytes = Uint8Array.of(1, 2, 3);
    const payload = payloadOf(bytes, undefined);
    bytes.fill(9);
    expect(payload.value).toEqual(Uint8Array.of(1, 2, 3));
  });

  test("1 MiB is the most", () => {
    expect(payloadOf(new Uint8Array(1_048_576), undefined).value.length).toBe(1_048_576);
    expect(() => payloadOf(new Uint8Array(1_048_577), undefined)).toThrow(ValueTooLargeError);
    expect(() => payloadOf("é".repeat(524_289), undefined)).toThrow(ValueTooLargeError);
  });

  test.each([42, null, undefined, {}, [1], "\ud800", new ArrayBuffer(3)])("%j is no value", (value) => {
    expect(() => payloadOf(value as string, undefined)).toThrow(InvalidValueError);
  });
});

describe("metadata", () => {
  const cyclic: Record<string, unknown> = {};
  cyclic.self = cyclic;

  test.each([[[1]], ["text"], [null], [cyclic], [{ n: 1n }], [{ toJSON: () => "text" }], [new Map()]])(
    "%s",
    (metadata) => {
      if (metadata instanceof Map)
        expect(Buffer.from(payloadOf("v", metadata as never).metadata).toString()).toBe("{}");
      else expect(() => payloadOf("v", metadata as never)).toThrow(InvalidValueError);
    },
  );

  test("8,192 bytes are the most", () => {
    expect(payloadOf("v", { a: "x".repeat(8_184) }).metadata.length).toBe(8_192);
    expect(() => payloadOf("v", { a: "x".repeat(8_185) })).toThrow(ValueTooLargeError);
  });
});
