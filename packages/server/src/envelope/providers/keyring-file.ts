/** The file that holds the master keys of a local keyring; spec/envelope.md § Keyring file. */

import { createHash, randomBytes } from "node:crypto";
import { link, open, readdir, realpath, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import { fromBase64url, toBase64url } from "@tacenda/protocol";
import { z } from "zod";

import { writePrivateFile } from "../../private-file.js";
import { tryLockFile } from "../../storage/lock.js";
import { lp, u32 } from "../bytes.js";

const FORMAT = "tacenda-keyring/2";
/** Of keyrings that had neither states nor a check of their own. They are read, and written as the format above. */
const EARLIER_FORMAT = "tacenda-keyring/1";
const ID_BYTES = 16;
const KEY_BYTES = 32;
const CHECK_BYTES = 8;
const MAX_U32 = 0xffff_ffff;

const version = z.int().min(1).max(MAX_U32);
const createdAt = z.iso.datetime();
/** The text is not looked at here: a key that was damaged must not keep the others from being read. */
const material = { key: z.string().max(200), check: z.string().max(200) };
const id = z.string().regex(/^[0-9a-f]{32}$/);

const earlierSchema = z
  .strictObject({
    format: z.literal(EARLIER_FORMAT),
    id,
    current: z.int(),
    keys: z.array(z.strictObject({ version, createdAt, ...material })).min(1),
  })
  .transform((keyring) => ({
    ...keyring,
    keys: keyring.keys.map((key) => ({ ...key, state: "enabled" as const })),
    check: null,
  }));

const keyringSchema = z.strictObject({
  format: z.literal(FORMAT),
  id,
  current: z.int(),
  keys: z
    .array(
      z.discriminatedUnion("state", [
        z.strictObject({ version, createdAt, state: z.enum(["enabled", "retired"]), ...material }),
        z.strictObject({ version, createdAt, state: z.literal("destroyed") }),
      ]),
    )
    .min(1),
  check: z.string(),
});

const anySchema = z.union([keyringSchema, earlierSchema]);

/** One master key of a keyring. */
export interface KeyringKey {
  version: number;
  /** ISO 8601. */
  createdAt: string;
  state: "enabled" | "retired" | "destroyed" | "damaged";
  /** 32 bytes; null when it is destroyed or damaged. */
  key: Buffer | null;
}

/** A keyring as it is used. */
export interface Keyring {
  id: string;
  current: number;
  keys: readonly KeyringKey[];
}

/** The keyring file cannot be used. The message says what to do and holds nothing of the file but key versions. */
export class KeyringError extends Error {
  override name = "KeyringError";
}

/**
 * Reads and checks a keyring file. A key whose check is wrong is `damaged`, and the others are as good as before.
 * @throws {KeyringError} when it is missing, open to others, malformed, of another format, or no key of it can be used.
 */
export async function readKeyring(file: string): Promise<Keyring> {
  const keyring = parseKeyring(file, await readPrivately(file));
  const damaged = keyring.keys.filter(({ state }) => state === "damaged").map((key) => key.version);
  if (damaged.length > 0 && keyring.keys.every(({ key }) => key === null)) {
    throw new KeyringError(
      `Key version ${damaged.join(", ")} in the keyring ${file} is damaged: restore the file from its backup. ` +
        "Nothing wrapped by this key can be opened until then.",
    );
  }
  return keyring;
}

/**
 * Makes a keyring with one fresh key. Never replaces a file: one that is there already stays. After a crash at any
 * moment the file is whole or absent.
 * @throws {KeyringError} when the folder cannot be written to.
 */
export async function createKeyring(file: string): Promise<void> {
  const keyring = { id: randomBytes(ID_BYTES).toString("hex"), current: 1, keys: [newKey(1)] };
  try {
    await writePrivateFile(file, format(keyring), linkUnlessThere);
  } catch (error) {
    throw new KeyringError(
      `Cannot create the keyring ${file}: its folder must exist, be writable and allow hard links.`,
      { cause: error },
    );
  }
}

/**
 * Locks the keyring in `file` against changes by others until `release`; null while another holds the lock.
 * @throws {KeyringError} when its folder cannot be written to.
 */
export async function lockKeyring(file: string): Promise<{ release(): void } | null> {
  try {
    return tryLockFile(`${await realpath(file)}.lock`);
  } catch (error) {
    throw new KeyringError(`Cannot lock the keyring ${file}: its folder must be writable, and its disk not full.`, {
      cause: error,
    });
  }
}

/**
 * Puts `next` in the place of the keyring that is in `file`, for who holds its lock: at every moment the file is the one or
 * the other. What a crash left of an earlier attempt goes, for it holds keys.
 * @throws {KeyringError} when it cannot be written; it stays as it is then.
 */
export async function replaceKeyring(file: string, next: Keyring): Promise<void> {
  // A key that is damaged here may be restored from a backup: nothing overwrites what is left of it.
  if (next.keys.some(({ state }) => state === "damaged")) {
    throw new KeyringError(`The keyring ${file} has a damaged key: restore it from its backup before changing it.`);
  }
  try {
    // A link stays one.
    const target = await realpath(file);
    await removeTemporaries(target);
    await writePrivateFile(target, format(next));
  } catch (error) {
    throw new KeyringError(`Cannot write the keyring ${file}: its folder must be writable, and its disk not full.`, {
      cause: error,
    });
  }
}

async function removeTemporaries(file: string): Promise<void> {
  const folder = dirname(file);
  const isLeft = (name: string) => name.startsWith(`${basename(file)}.`) && /\.[0-9a-f]{12}\.tmp$/.test(name);
  for (const name of (await readdir(folder)).filter(isLeft)) await unlink(join(folder, name));
}

/** A fresh master key. */
export function newKey(version: number): KeyringKey {
  return { version, createdAt: new Date().toISOString(), state: "enabled", key: randomBytes(KEY_BYTES) };
}

/** The text of the file. */
function format({ id, current, keys }: Keyring): string {
  const lines = keys.map(({ version, createdAt, state, key }) =>
    key === null
      ? { version, createdAt, state }
      : { version, createdAt, state, key: toBase64url(key), check: keyCheck(id, version, key) },
  );
  const check = fileCheck({ id, current, keys });
  return `${JSON.stringify({ format: FORMAT, id, current, keys: lines, check }, null, 2)}\n`;
}

/** The first bytes of a hash over all that makes the key what it is, so that damage is told from a wrong key. */
function keyCheck(id: string, version: number, key: Uint8Array): string {
  return shortHash(lp("tacenda/1/keyring-check"), lp(id), u32(version), key);
}

/** The same over everything but the keys, which have checks of their own. */
function fileCheck({ id, current, keys }: Keyring): string {
  const lines = keys.flatMap(({ version, createdAt, state }) => [u32(version), lp(createdAt), lp(state)]);
  return shortHash(lp("tacenda/1/keyring-file-check"), lp(id), u32(current), ...lines);
}

function shortHash(...parts: Uint8Array[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return toBase64url(hash.digest().subarray(0, CHECK_BYTES));
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
        `There is no keyring at ${file}: restore it from its backup, or name it with --keyring. ` +
          "Without it nothing can be opened that was written under it.",
      );
    }
    throw new KeyringError(`Cannot read the keyring ${file}: make it a file that this user can read.`, {
      cause: error,
    });
  }
}

function parseKeyring(file: string, text: string): Keyring {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // The parser's own error quotes the text, which holds keys: it must go no further.
    throw malformed(file, "it is not JSON");
  }
  if (typeof json === "object" && json !== null && "format" in json) {
    if (json.format !== FORMAT && json.format !== EARLIER_FORMAT) {
      throw malformed(file, "its format is not known to this version of the server");
    }
  }
  const parsed = anySchema.safeParse(json);
  if (!parsed.success) throw malformed(file, `wrong at ${placeOf(parsed.error)}`);
  const { id, current, check } = parsed.data;
  const keys = parsed.data.keys.map((key) => toKey(id, key));
  if (new Set(keys.map(({ version }) => version)).size !== keys.length) {
    throw malformed(file, "it has two keys of one version");
  }
  if (keys.find(({ version }) => version === current)?.state === undefined) {
    throw malformed(file, "it lacks the key version it calls current");
  }
  const written = parsed.data.keys.map(({ version, createdAt, state }) => ({ version, createdAt, state, key: null }));
  if (check !== null && check !== fileCheck({ id, current, keys: written })) {
    throw malformed(file, "its check is wrong: it was damaged or edited");
  }
  return { id, current, keys };
}

function toKey(id: string, line: z.infer<typeof anySchema>["keys"][number]): KeyringKey {
  const { version, createdAt, state } = line;
  if (state === "destroyed") return { version, createdAt, state, key: null };
  const key = fromBase64url(line.key);
  const isSound = key?.length === KEY_BYTES && line.check === keyCheck(id, version, key);
  return isSound
    ? { version, createdAt, state, key: Buffer.from(key) }
    : { version, createdAt, state: "damaged", key: null };
}

/** Where the file is wrong, in names of its fields. */
function placeOf(error: z.ZodError): string {
  const [issue] = error.issues;
  const inner = issue?.code === "invalid_union" ? issue.errors.flat()[0] : issue;
  return inner?.path.join(".") ?? "";
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
