/** The positive control: whatever form a canary is planted in, and wherever, the search finds it and names the form. */

import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { freshFolder } from "../server-process.ts";
import { needlesOf, search } from "./needles.ts";

const TEXT = `käy/"1"\n?&=${randomBytes(12).toString("hex")} +%ü\\~${randomBytes(12).toString("base64")}`;
const BYTES = randomBytes(32);
const needles = needlesOf([
  { name: "text", content: TEXT },
  { name: "bytes", content: BYTES },
]);

/** The ways in which programs write a text or bytes down, independent of how the search makes its forms. */
const PLANTED: [form: string, plant: (noise: Buffer) => Buffer | string][] = [
  ["raw", () => TEXT],
  ["raw bytes", () => BYTES],
  ["hex", (noise) => Buffer.concat([noise, Buffer.from(TEXT)]).toString("hex")],
  ["upper-case hex", () => BYTES.toString("hex").toUpperCase()],
  ["an inspected buffer", () => `<Buffer ${[...BYTES].map((byte) => byte.toString(16).padStart(2, "0")).join(" ")}>`],
  ["a JSON array of bytes", () => JSON.stringify([...BYTES])],
  ["URL component", () => encodeURIComponent(TEXT)],
  ["a path of a URL", () => new URL(`http://host/${encodeURIComponent(TEXT)}`).href],
  ["a form", () => new URLSearchParams({ key: TEXT }).toString()],
  ["JSON", () => JSON.stringify({ key: TEXT })],
  ["ASCII JSON", () => JSON.stringify(TEXT).replace(/ä/g, "\\u00e4").replace(/ü/g, "\\u00fc")],
  ["UTF-16LE", (noise) => Buffer.concat([noise, Buffer.from(TEXT, "utf16le")])],
  ["UTF-16BE", (noise) => Buffer.concat([noise, Buffer.from(TEXT, "utf16le").swap16()])],
];

describe("a planted canary is found", () => {
  test.each(PLANTED)("as %s", async (_, plant) => {
    const file = join(await freshFolder(), "planted");
    await writeFile(file, Buffer.concat([randomBytes(1_001), Buffer.from(plant(randomBytes(7))), randomBytes(999)]));
    const found = search(await readFile(file), needles);
    expect(found.some((name) => name.includes("half 1"))).toBe(true);
    expect(found.some((name) => name.includes("half 2"))).toBe(true);
  });

  test.each(["base64", "base64url"] as const)("as %s of longer bytes, at every alignment", (encoding) => {
    for (let before = 0; before < 6; before++) {
      for (let after = 0; after < 3; after++) {
        const planted = Buffer.concat([randomBytes(before), BYTES, randomBytes(after)]).toString(encoding);
        const wanted = new RegExp(`bytes, half . as ${encoding} at alignment ${before % 3}`);
        expect(search(planted, needles).join("\n")).toMatch(wanted);
      }
    }
  });

  test("in each of its forms, both halves apart", () => {
    for (const needle of needles) {
      const planted = Buffer.concat([Buffer.alloc(5), needle.bytes, Buffer.alloc(5)]);
      expect(search(planted, needles)).toContain(`${needle.canary} as ${needle.form}`);
    }
  });

  test("and nothing is found in noise", () => {
    expect(search(randomBytes(100_000), needles)).toEqual([]);
  });

  test("a canary too short to be told from chance is refused", () => {
    expect(() => needlesOf([{ name: "short", content: "short" }])).toThrow("too short");
  });
});
