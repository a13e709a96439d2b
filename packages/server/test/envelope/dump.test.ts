/** A dump of the database holds neither key hashes nor sealed records, in any form; spec/envelope.md, threats (a). */

import { randomBytes } from "node:crypto";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";

import { expect, test } from "vitest";

import { openWorld, refTo, writeOf, type World } from "./world.js";

/** The forms in which bytes could be found. Base64 depends on where in its input they begin, so all three are tried. */
function formsOf(bytes: Buffer): Buffer[] {
  const hex = bytes.toString("hex");
  const base64 = [0, 1, 2].flatMap((shift) => {
    // The characters that depend on nothing but these bytes.
    const text = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString("base64")
      .replace(/=+$/, "");
    const inner = text.slice(shift === 0 ? 0 : shift + 1, -1);
    return [inner, inner.replaceAll("+", "-").replaceAll("/", "_")];
  });
  const texts = [hex, hex.toUpperCase(), ...base64];
  return [bytes, ...texts.map((text) => Buffer.from(text)), ...texts.map((text) => Buffer.from(text, "utf16le"))];
}

/** Names of the world's database files that hold the bytes in any form. */
async function filesWith({ folder }: World, bytes: Buffer): Promise<string[]> {
  const names = (await readdir(folder)).filter((name) => name.startsWith("records.db"));
  expect(names).toEqual(expect.arrayContaining(["records.db", "records.db-wal"]));
  const forms = formsOf(bytes);
  const found = [];
  for (const name of names) {
    const content = await readFile(join(folder, name));
    if (forms.some((form) => content.includes(form))) found.push(name);
  }
  return found;
}

async function fill(world: World) {
  const records = Array.from({ length: 50 }, () => ({ ref: refTo(randomBytes(32)), body: randomBytes(422) }));
  await world.records.commit(records.map(({ ref, body }) => writeOf(ref, 1, body)));
  await world.records.commit(records.map(({ ref, body }) => writeOf(ref, 2, Buffer.concat([body, body]))));
  // A record long enough for overflow pages, and one that was deleted again.
  const large = { ref: refTo(randomBytes(32)), body: randomBytes(60_000) };
  await world.records.commit([writeOf(large.ref, 1, large.body)]);
  return [...records, large];
}

/** Short enough not to straddle two pages of the file, which would hide it. */
const pieces = (body: Buffer) => [body.subarray(0, 24), body.subarray(75, 99), body.subarray(-24)];

test("key hashes, sealed records and store keys are not in the files, before and after a checkpoint", async () => {
  const world = await openWorld();
  const records = await fill(world);
  expect((await world.records.read(records.map(({ ref }) => ref))).every((record) => record !== null)).toBe(true);
  const storeKeys = await Promise.all([world.storeKey("index"), world.storeKey("data")]);
  const secrets = [
    ...records.flatMap(({ ref, body }) => [Buffer.from(ref.id), ...pieces(body)]),
    ...storeKeys.map((key) => Buffer.from(key)),
  ];
  for (const moment of ["in the log", "in the database"]) {
    for (const secret of secrets) expect(await filesWith(world, secret), moment).toEqual([]);
    world.raw.pragma("wal_checkpoint(restart)");
  }
});

test("the search finds what is there: the same writes without the envelope, and text in each form", async () => {
  const world = await openWorld();
  const ref = refTo(randomBytes(32));
  const body = randomBytes(422);
  await world.database.records.commit([{ ...writeOf(ref, 1, body), keyVersion: 1 }]);
  expect(await filesWith(world, Buffer.from(ref.id))).toContain("records.db-wal");
  for (const piece of pieces(body)) expect(await filesWith(world, piece)).toContain("records.db-wal");
  world.raw.pragma("wal_checkpoint(restart)");
  for (const piece of pieces(body)) expect(await filesWith(world, piece)).toContain("records.db");

  const secret = randomBytes(32);
  const texts = [
    secret.toString("hex"),
    secret.toString("hex").toUpperCase(),
    secret.toString("base64"),
    secret.toString("base64url"),
    Buffer.concat([randomBytes(1), secret, randomBytes(2)]).toString("base64"),
    Buffer.concat([randomBytes(2), secret, randomBytes(2)]).toString("base64url"),
  ];
  for (const text of texts) {
    expect(await filesWith(world, secret)).toEqual([]);
    await world.directory.setSetting("canary", text);
    expect(await filesWith(world, secret), text).not.toEqual([]);
    // secure_delete and a new log leave nothing of it.
    await world.directory.setSetting("canary", "0".repeat(text.length));
    world.raw.pragma("wal_checkpoint(truncate)");
    await world.directory.setSetting("canary", "1".repeat(text.length));
  }
});
