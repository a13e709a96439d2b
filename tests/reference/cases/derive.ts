/** Cases of spec/record.md § Secrets, § Generated secrets, § Deriving and § Padding, refused inputs included. */

import type { DeriveInput } from "../answers.ts";
import { checksum, sha256 } from "../reference.ts";
import { toHex, type Vector } from "../vector.ts";
import { DERIVATION, SECRET, fixedBytes, vector } from "./common.ts";

const BASE = { ...DERIVATION, secret: { text: SECRET } };

function derives(name: string, change: Partial<DeriveInput>): Vector {
  return vector("derive", name, { ...BASE, ...change });
}

const longSecret = fixedBytes("65-byte secret", 65);
const generatedBody = "tcs_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";
const generated = generatedBody + checksum(generatedBody);
const tokenBody = "tct_0123456789AB0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg";
const token = tokenBody + checksum(tokenBody);
const passphrase = "four short words";

export const deriveCases: Vector[] = [
  derives("bytes secret", { secret: { hex: toHex(fixedBytes("bytes secret", 32)) } }),
  derives("generated secret", { secret: { text: generated } }),
  derives("secret with a trailing NUL", { secret: { text: `${SECRET}\0` } }),
  derives("65-byte secret", { secret: { hex: toHex(longSecret) } }),
  derives("digest of the 65-byte secret", { secret: { hex: toHex(sha256(longSecret)) } }),
  derives("secret of 32 code points, 128 bytes", { secret: { text: "🔑🗝🔒🔓🔏🔐🚪🧱".repeat(4) } }),
  derives("key with a trailing NUL", { key: `${DERIVATION.key}\0` }),
  derives("key that is one NUL", { key: "\0", stretch: "store" }),
  derives("store ab, key c", { store: "ab", key: "c" }),
  derives("store a, key bc", { store: "a", key: "bc" }),
  derives("key of 1024 bytes", { key: "é".repeat(512), stretch: "store" }),
  derives("key is not normalized (composed)", { key: "\u00e9", stretch: "store" }),
  derives("key is not normalized (decomposed)", { key: "e\u0301", stretch: "store" }),
  derives("key is not trimmed, byte order mark", { key: "\ufeff a ", stretch: "store" }),
  derives("weak secret by choice", {
    secret: { text: passphrase },
    iterations: 600_000,
    stretch: "store",
    allowWeakSecret: true,
  }),

  derives("refused: empty key", { key: "" }),
  derives("refused: key of 1025 bytes", { key: `${"é".repeat(512)}a` }),
  derives("refused: lone high surrogate in key", { key: "a\ud800b" }),
  derives("refused: lone low surrogate in key", { key: "a\udc00" }),
  derives("refused: short text secret", { secret: { text: SECRET.slice(0, 31) } }),
  derives("refused: short bytes secret", { secret: { hex: toHex(fixedBytes("short", 31)) } }),
  derives("refused: 16 code points, 32 UTF-16 units", { secret: { text: "🔑🗝🔒🔓🔏🔐🚪🧱".repeat(2) } }),
  derives("refused: seven distinct characters", { secret: { text: "abcdefg".repeat(8) } }),
  derives("refused: seven distinct byte values", { secret: { hex: "00010203040506".repeat(8) } }),
  derives("refused: lone surrogate in secret", { secret: { text: `${SECRET}\ud800` } }),
  derives("refused: empty secret even by choice", { secret: { text: "" }, iterations: 600_000, allowWeakSecret: true }),
  derives("refused: generated secret with a wrong checksum", {
    secret: { text: generated.replace("tcs_0", "tcs_1") },
  }),
  derives("refused: generated secret cut short, even by choice", {
    secret: { text: generated.slice(0, -1) },
    iterations: 600_000,
    allowWeakSecret: true,
  }),
  derives("refused: token for a secret, even by choice", {
    secret: { text: token },
    iterations: 600_000,
    allowWeakSecret: true,
  }),
  derives("refused: weak secret by choice at too few iterations", {
    secret: { text: passphrase },
    iterations: 599_999,
    allowWeakSecret: true,
  }),
  derives("refused: 99999 iterations", { iterations: 99_999 }),
  derives("refused: 10000001 iterations", { iterations: 10_000_001 }),

  ...[1, 256, 257, 272, 273, 4_095, 4_096, 4_097, 5_000, 65_536, 65_537, 1_056_785].map((length) =>
    vector("padding", `${length} bytes`, { length }),
  ),

  vector("generated-secret", "valid", { text: generated }),
  vector("generated-secret", "one character changed", { text: generated.replace("tcs_0", "tcs_1") }),
  vector("generated-secret", "two characters swapped", { text: generated.replace("01", "10") }),
  vector("generated-secret", "too short", { text: generated.slice(0, -1) }),
  vector("generated-secret", "character outside the alphabet", { text: generated.replace("tcs_0", "tcs_-") }),
  vector("generated-secret", "prefix of a token", { text: token }),
  vector("token", "valid", { text: token }),
  vector("token", "one character changed", { text: token.replace("tct_0", "tct_1") }),
  vector("token", "checksum in lower case", { text: tokenBody + checksum(tokenBody).toLowerCase() }),
  vector("token", "trailing newline", { text: `${token}\n` }),
  vector("token", "prefix of a generated secret", { text: generated }),
];
