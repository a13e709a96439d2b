/** Bodies for every route: what it takes, that with something wrong in it, and what no route takes. */

import { MAX_RECORD_BYTES } from "@tacenda/protocol";
import fc from "fast-check";

import type { Route } from "../../../packages/server/src/http/routes.ts";
import { sealedRecord } from "../../../packages/server/test/world.ts";
import { HASHES, NEEDLE } from "./scene.ts";

/** Bytes of a body, which may be long; for a person the beginning is enough. */
export class Body {
  readonly bytes: Uint8Array;
  constructor(bytes: Uint8Array | string) {
    this.bytes = typeof bytes === "string" ? Buffer.from(bytes) : bytes;
  }
  [fc.toStringMethod](): string {
    const text = Buffer.from(this.bytes.subarray(0, 400)).toString("latin1");
    return `${this.bytes.length} bytes: ${JSON.stringify(text)}`;
  }
}

const TIMES = [0, 1, 1_000, 4_102_444_800_000, Number.MAX_SAFE_INTEGER];
/** As JSON spells them: numbers that are none, too large, too exact. */
const ODD_NUMBERS = [
  "-1",
  "-0",
  "1.5",
  "1e400",
  "-1e400",
  "1e-400",
  "9007199254740992",
  "9223372036854775808",
  "1e3",
  "01",
];
const ODD_TEXTS = [
  ...[
    "",
    "\0",
    "a\0b",
    "\ud800",
    "\udc00x",
    "\u{1f600}",
    "\u202e",
    "'; drop table records; --",
    "%00",
    "..",
    "__proto__",
  ],
  ...[`${NEEDLE}*`, "*", "**", "a*b", "A", "-", "_", "x".repeat(101), "x".repeat(5_000)],
];

/** What stands in JSON where something else should. */
const oddValue = fc.oneof(
  fc.constantFrom(...ODD_NUMBERS, "null", "true", "[]", "{}", '"1"', '{"__proto__":{"id":"a"}}', "NaN", "[[[]]]"),
  fc.constantFrom(...ODD_TEXTS).map((text) => JSON.stringify(text)),
  fc.json({ maxDepth: 3 }),
  // Escapes that no JavaScript string stands for by itself.
  fc.constantFrom('"\\ud800"', '"\\u0000"', '"\\uDBFF\\uDFFF"', '"\\x"', '"\u0001"', `"${NEEDLE}\\u0000"`),
);

/** A JSON text in whose tree one value, or one member more, is odd. */
const mutated = (valid: fc.Arbitrary<unknown>) =>
  fc
    .tuple(valid, fc.nat(30), oddValue, fc.constantFrom("value", "member", "proto", "twice", "cut"))
    .map(([value, place, odd, how]) => {
      const text = JSON.stringify(value);
      if (how === "cut") return text.slice(0, place);
      if (how === "proto") return text.replace("{", `{"__proto__":${odd},"constructor":{"prototype":{}},`);
      if (how === "member") return text.replace("{", `{${JSON.stringify(NEEDLE)}:${odd},`);
      const values = [...text.matchAll(/"(?:[^"\\]|\\.)*"(?!:)|-?\d+|true|false|null/g)];
      const hit = values[place % Math.max(1, values.length)];
      if (hit === undefined) return odd;
      if (how === "twice") return text.replace("{", `{"expiresAt":1,"expiresAt":${odd},`);
      return text.slice(0, hit.index) + odd + text.slice(hit.index + hit[0].length);
    });

const deep = fc
  .tuple(fc.constantFrom("[", '{"a":', '[{"grants":'), fc.constantFrom(50, 5_000, 30_000))
  .map(([open, depth]) => open.repeat(depth).slice(0, 65_536));

/** JSON that fits no route, and what is no JSON. */
const strange: fc.Arbitrary<string | Uint8Array> = fc.oneof(
  deep,
  fc.json(),
  fc.constantFrom("", " ", "null", '"x"', "[]", "{}", "\ufeff{}", "{}{}", "{'a':1}", '{"a":1,}', "﻿", "//{}", "1e999"),
  fc.uint8Array({ maxLength: 200 }),
  fc.constantFrom(
    new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]),
    new Uint8Array([0x22, 0xed, 0xa0, 0x80, 0x22]),
    Buffer.from('{"id":"a"}', "utf16le"),
  ),
);

const key = fc.oneof(
  { weight: 9, arbitrary: fc.constantFrom(...HASHES) },
  { weight: 1, arbitrary: fc.constantFrom(`${"A".repeat(42)}B`, "A".repeat(44), "", "../", `${HASHES[0] ?? ""}=`) },
);
const version = fc.constantFrom(
  0,
  1,
  1,
  2,
  2,
  3,
  4,
  9,
  2 ** 31,
  2 ** 32,
  Number.MAX_SAFE_INTEGER - 1,
  Number.MAX_SAFE_INTEGER,
);
const state = fc.constantFrom(0, 0, 0, 1, 2, 3);
const record = fc
  .record({
    state,
    expiresAt: fc.constantFrom(0, 0, ...TIMES),
    length: fc.constantFrom(347, 347, 400, 75, 346, 20_000),
  })
  .map((options) => sealedRecord(options));
const base64 = record.map((bytes) => Buffer.from(bytes).toString("base64url"));
const id = fc.oneof(
  fc.constantFrom("a", "b", "any", "gone", "default", "elsewhere", "canary"),
  fc.nat(999).map((n) => `${NEEDLE}${n}`),
);
const text = fc.oneof(fc.string({ unit: "binary", maxLength: 120 }), fc.constantFrom(NEEDLE, ...ODD_TEXTS));
const permissions = fc.oneof(
  { weight: 9, arbitrary: fc.subarray(["read", "write", "delete"], { minLength: 1 }) },
  { weight: 1, arbitrary: fc.subarray(["read", "write", "manage", "root"]) },
);
const patterns = fc.oneof(
  { weight: 9, arbitrary: fc.subarray(["*", "a", "a*", "b"], { minLength: 1 }) },
  { weight: 1, arbitrary: fc.subarray(["A", "", "**", "a"]) },
);
const grants = fc.array(fc.record({ stores: patterns, permissions }), { maxLength: 2 });
const secrets = fc.constantFrom("one", "any", "one", "any", "two");
const maxVersions = fc.constantFrom(1, 2, 3, 10, 1_000, 1_001);
const optional = <T extends object>(model: { [Name in keyof T]: fc.Arbitrary<T[Name]> }) =>
  fc.record(model, { requiredKeys: [] });
const masterKey = optional({
  version: fc.constantFrom(1, 2, 3, 4, 0xffff_ffff),
  provider: fc.constantFrom("local:", "pkcs11:", "x"),
});

/** By the last part of a route's path. */
const JSON_BODIES: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  projects: fc.record({ id }),
  stores: fc.oneof(fc.record({ id }), fc.record({ id, secrets, maxVersions }, { requiredKeys: ["id"] })),
  ":store": optional({ secrets, maxVersions }),
  tokens: fc.record({ name: text, grants, expiresAt: fc.constantFrom(...TIMES) }, { requiredKeys: ["name", "grants"] }),
  ":hash": optional({ protected: fc.boolean(), active: fc.boolean() }),
  rotate: optional({ reencrypt: fc.boolean() }),
  migrate: fc.record({ to: fc.constantFrom("local:", "pkcs11:", "x", "") }),
  reencrypt: fc.constant({}),
  ...{ retire: masterKey, reinstate: masterKey, destroy: masterKey },
  batch: fc.oneof(
    fc.record({ reads: fc.array(fc.record({ key, version }, { requiredKeys: ["key"] }), { maxLength: 12 }) }),
    fc.record({
      writes: fc.array(
        fc.record(
          { key, expect: version, record: base64, purge: fc.constantFrom("earlier", "all") },
          { requiredKeys: ["key", "expect", "record"] },
        ),
        { maxLength: 12 },
      ),
    }),
    fc.record({ reads: fc.constant([]), writes: fc.constant([]) }),
  ),
};

const bytesBody = (path: string): fc.Arbitrary<Uint8Array> =>
  path.endsWith("/secret-check")
    ? fc.oneof(
        fc
          .constantFrom(32, 32, 64, 64, 0, 31, 33, 63, 65, 96)
          .chain((length) =>
            fc
              .constantFrom(1, 2, 3)
              .map((fill) =>
                Buffer.concat([
                  Buffer.alloc(Math.min(32, length), fill),
                  Buffer.alloc(Math.max(0, length - 32), fill + 1),
                ]),
              ),
          ),
        fc.uint8Array({ maxLength: 100 }),
      )
    : fc.oneof(
        { weight: 12, arbitrary: record },
        {
          weight: 3,
          arbitrary: fc
            .tuple(record, fc.nat(74), fc.nat(255))
            .map(([bytes, place, value]) => Uint8Array.from(bytes).fill(value, place, place + 1)),
        },
        { weight: 1, arbitrary: fc.uint8Array({ maxLength: 100 }) },
        {
          weight: 1,
          arbitrary: fc.constantFrom(MAX_RECORD_BYTES, MAX_RECORD_BYTES + 1).map((length) => sealedRecord({ length })),
        },
      );

/** A body for a route, good more often than not. */
export function bodyFor({ body, path }: Route): fc.Arbitrary<Body> {
  const own = (): fc.Arbitrary<string | Uint8Array> => {
    if (body === "bytes" || body === "optional bytes") return bytesBody(path);
    const valid = JSON_BODIES[path.slice(path.lastIndexOf("/") + 1)] ?? fc.constant({});
    return fc.oneof(
      { weight: 6, arbitrary: valid.map((value) => JSON.stringify(value)) },
      { weight: 3, arbitrary: mutated(valid) },
    );
  };
  const none = fc.constant("");
  return fc
    .oneof({ weight: 9, arbitrary: body === "none" ? none : own() }, { weight: 1, arbitrary: strange })
    .map((bytes) => new Body(bytes));
}
