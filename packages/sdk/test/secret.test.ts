import { inspect } from "node:util";

import { expect, test } from "vitest";

import { generateSecret } from "../src/crypto/generated.js";
import { ConfigurationError, WeakSecretError } from "../src/errors.js";
import { Secret, type SecretInput } from "../src/secret.js";

const strict = { iterations: 100_000, allowWeak: false };
const hashOf = (secret: SecretInput) => Buffer.from(Secret.hashOf(Secret.from(secret, strict))).toString("hex");

test("a generated secret is accepted, of the form tcs_ and 49 characters, and different each time", () => {
  const secrets = Array.from({ length: 200 }, generateSecret);
  for (const secret of secrets) {
    expect(secret).toMatch(/^tcs_[0-9A-Za-z]{49}$/);
    expect(() => Secret.from(secret, strict)).not.toThrow();
  }
  expect(new Set(secrets).size).toBe(200);
});

test("every single changed character of a generated secret is noticed", () => {
  const secret = generateSecret();
  for (let index = 4; index < secret.length; index++) {
    const other = secret[index] === "x" ? "y" : "x";
    const typo = secret.slice(0, index) + other + secret.slice(index + 1);
    expect(() => Secret.from(typo, strict)).toThrow(WeakSecretError);
  }
});

test.each([
  ["31 characters", "0123456789abcdefghijklmnopqrstu"],
  ["seven distinct characters", "abcdefg".repeat(10)],
  ["31 bytes", Uint8Array.from({ length: 31 }, (_, index) => index)],
  ["nothing", ""],
])("%s are refused without quoting them", (_, secret) => {
  expect(() => Secret.from(secret, strict)).toThrow(WeakSecretError);
});

test("a passphrase needs both the dangerous option and 600,000 iterations", () => {
  const weak = "correct horse battery staple";
  expect(() => Secret.from(weak, { iterations: 600_000, allowWeak: false })).toThrow(WeakSecretError);
  expect(() => Secret.from(weak, { iterations: 599_999, allowWeak: true })).toThrow(WeakSecretError);
  expect(() => Secret.from(weak, { iterations: 600_000, allowWeak: true })).not.toThrow();
});

test("a token is no secret, for the server knows it", () => {
  const token = `tct_${"0123456789abcdefghijklmnopqrstuvwxyz".repeat(2).slice(0, 61)}`;
  expect(() => Secret.from(token, strict)).toThrow(/token/);
  expect(() => Secret.from(token, { iterations: 600_000, allowWeak: true })).toThrow(WeakSecretError);
});

test("what is neither text nor bytes is refused", () => {
  expect(() => Secret.from(42 as unknown as string, strict)).toThrow(ConfigurationError);
});

test("secrets that HMAC would take for one are different", () => {
  const secret = "0123456789abcdefghijklmnopqrstuvwxyz";
  expect(hashOf(secret)).not.toBe(hashOf(`${secret}\0`));
  expect(hashOf(secret)).toBe(hashOf(Buffer.from(secret)));
});

test("nothing shows it", () => {
  const secret = generateSecret();
  const held = Secret.from(secret, strict);
  const hash = Buffer.from(Secret.hashOf(held));
  for (const shown of [
    String(held),
    JSON.stringify(held),
    inspect(held, { showHidden: true, depth: 9 }),
    JSON.stringify({ held }),
  ]) {
    expect(shown).toContain("[redacted secret]");
    for (const form of [secret, hash.toString("hex"), hash.toString("base64url")]) expect(shown).not.toContain(form);
  }
});
