/** The file that holds the master keys of a local keyring; spec/envelope.md § Keyring file. */

import { createHash, randomBytes } from "node:crypto";
import { link, open } from "node:fs/promises";

import { fromBase64url, toBase64url } from "@tacenda/protocol";
import { z } from "zod";

import { writePrivateFile } from "../private-file.js";
import { lp, u32 } from "./bytes.js";

const FORMAT = "tacenda-keyring/1";
const ID_BYTES = 16;
const KEY_BYTES = 32;
const CHECK_BYTES = 8;
const MAX_U32 = 0xffff_ffff;

const bytesOf = (length: number) =>
  z.string().refine((text) => fromBase64url(text)?.length === length, { error: `not ${length} bytes of base64url` });

const keyringSchema = z.strictObject({
  format: z.literal(FORMAT),
  id: z.string().regex(/^[0-9a-f]{32}$/),
  current: z.int(),
  keys: z
    .array(
      z.strictObject({
        version: z.int().min(1).max(MAX_U32),
        createdAt: z.iso.datetime(),
        key: bytesOf(KEY_BYTES),
        check: bytesOf(CHECK_BYTES),
      }),
    )
    .min(1),
});

/** A keyring as its file has it. */
export type KeyringFile = z.infer<typeof keyringSchema>;

/** The keyring file cannot be used. The message says what to do and holds nothing of the file but key versions. */
export class KeyringError extends Error {
  override name = "KeyringError";
}

/**
 * Reads and checks a keyring file.
 * @throws {KeyringError} when it is missing, open to others, malformed, of another format, or damaged.
 */
export async function readKeyring(file: string): Promise<KeyringFile> {
  const text = await readPrivately(file);
  const keyring = parseKeyring(file, text);
  for (const { version, key, check } of keyring.keys) {
    if (check !== keyCheck(keyring.id, version, key)) {
      throw new KeyringError(
        `Key version ${version} in the keyring ${file} is damaged: restore the file from its backup. ` +
          "Nothing wrapped by this key can be opened until then.",
      );
    }
  }
  return keyring;
}

/**
 * Makes a keyring with one fresh key. Never replaces a file: one that is there already stays. After a crash at any
 * moment the file is whole or absent.
 * @throws {KeyringError} when the folder cannot be written to.
 */
export async function createKeyring(file: string): Promise<void> {
  const id = randomBytes(ID_BYTES).toString("hex");
  const key = toBase64url(randomBytes(KEY_BYTES));
  const first = { version: 1, createdAt: new Date().toISOString(), key, check: keyCheck(id, 1, key) };
  const keyring: KeyringFile = { format: FORMAT, id, current: first.version, keys: [first] };
  try {
    await writePrivateFile(file, `${JSON.stringify(keyring, null, 2)}\n`, linkUnlessThere);
  } catch (error) {
    throw new KeyringError(
      `Cannot create the keyring ${file}: its folder must exist, be writable and allow hard links.`,
      { cause: error },
    );
  }
}

/** The first bytes of a hash over all that makes the key what it is, so that damage is told from a wrong key. */
function keyCheck(id: string, version: number, key: string): string {
  return toBase64url(
    createHash("sha256")
      .update(lp("tacenda/1/keyring-check"))
      .update(lp(id))
      .update(u32(version))
      .update(Buffer.from(key, "base64url"))
      .digest()
      .subarray(0, CHECK_BYTES),
  );
}

async function readPrivately(file: string): Promise<string> {
  try {
    await using handle = await open(file, "r");
    const stat = await handle.stat();
    if (!stat.isFile()) throw new KeyringError(`The keyring ${file} is not a file: name the keyring file itself.`);
    // Windows has no such modes.
    if (process.platform !== "win32" && (stat.mode & 0o077) !== 0) {
      throw new KeyringError(`The keyring ${file} is open to other users: run chmod 600 ${file}`);
    }
    return await handle.readFile("utf8");
  } catch (error) {
    if (error instanceof KeyringError) throw error;
    if (isCode(error, "ENOENT")) {
      throw new KeyringError(
        `There is no keyring at ${file}: restore it from its backup, or name the right file. ` +
          "Without it nothing in this data directory can be opened.",
      );
    }
    throw new KeyringError(`Cannot read the keyring ${file}: make it a file that this user can read.`, {
      cause: error,
    });
  }
}

function parseKeyring(file: string, text: string): KeyringFile {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // The parser's own error quotes the text, which holds keys: it must go no further.
    throw malformed(file, "it is not JSON");
  }
  if (typeof json === "object" && json !== null && "format" in json && json.format !== FORMAT) {
    throw malformed(file, "its format is not known to this version of the server");
  }
  const parsed = keyringSchema.safeParse(json);
  if (!parsed.success) throw malformed(file, `wrong at ${parsed.error.issues[0]?.path.join(".") ?? ""}`);
  const versions = new Set(parsed.data.keys.map(({ version }) => version));
  if (versions.size !== parsed.data.keys.length) throw malformed(file, "it has two keys of one version");
  if (!versions.has(parsed.data.current)) throw malformed(file, "it lacks the key version it calls current");
  return parsed.data;
}

function malformed(file: string, why: string): KeyringError {
  return new KeyringError(`${file} is no usable keyring (${why}): restore it from its backup, or name the right file.`);
}

/** Puts the file in place unless one is there. Not a rename, which would replace a keyring another process has just made. */
async function linkUnlessThere(temporary: string, file: string): Promise<void> {
  try {
    await link(temporary, file);
  } catch (error) {
    if (!isCode(error, "EEXIST")) throw error;
  }
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
