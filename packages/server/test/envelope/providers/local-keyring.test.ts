/** The local keyring: its file and its wraps; spec/envelope.md § Wrapping, § Keyring file. */

import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";

import { afterEach, beforeEach, describe, expect, test } from "vitest";

import type { Wrap, WrapContext } from "../../../src/envelope/key-provider.js";
import { KeyringError, openKeyring } from "../../../src/envelope/providers/local-keyring.js";
import * as reference from "../reference.js";

let folder: string;
let file: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tacenda-keyring-"));
  file = join(folder, "keyring.json");
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

interface FileKey {
  version: number;
  createdAt: string;
  key: string;
  check: string;
}

interface FileContent {
  format: string;
  id: string;
  current: number;
  keys: FileKey[];
}

const context: WrapContext = { project: "default", store: "user-tokens", purpose: "data", version: 1 };

const content = async () => JSON.parse(await readFile(file, "utf8")) as FileContent;

const save = (value: unknown) => writeFile(file, JSON.stringify(value), { mode: 0o600 });

/** A file with as many master keys; the last is current. */
async function saveVersions(count: number): Promise<FileContent> {
  const id = randomBytes(16).toString("hex");
  const keys = Array.from({ length: count }, (_, index) => {
    const key = randomBytes(32);
    const version = index + 1;
    const check = reference.keyringCheck(id, version, key);
    return { version, createdAt: new Date().toISOString(), key: key.toString("base64url"), check };
  });
  const value = { format: "tacenda-keyring/1", id, current: count, keys };
  await save(value);
  return value;
}

/** What opening the file is refused with. */
async function refusal(create = false): Promise<string> {
  const error: unknown = await openKeyring(file, { create }).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(KeyringError);
  return (error as KeyringError).message;
}

describe("the file", () => {
  test("is made once, private, with one key whose check an independent computation confirms", async () => {
    const keyring = await openKeyring(file, { create: true });
    const value = await content();
    expect(value).toMatchObject({ format: "tacenda-keyring/2", current: 1 });
    expect(Object.keys(value)).toEqual(["format", "id", "current", "keys", "check"]);
    expect(value.id).toMatch(/^[0-9a-f]{32}$/);
    expect(keyring.id).toBe(`local:${value.id}`);
    const [key] = value.keys;
    expect(Object.keys(key ?? {})).toEqual(["version", "createdAt", "state", "key", "check"]);
    const bytes = Buffer.from(key?.key ?? "", "base64url");
    expect(bytes).toHaveLength(32);
    expect(key?.check).toBe(reference.keyringCheck(value.id, 1, bytes));
    expect(new Date(key?.createdAt ?? "").toISOString()).toBe(key?.createdAt);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readdir(folder)).toEqual(["keyring.json"]);

    const again = await openKeyring(file, { create: true });
    expect(again.id).toBe(keyring.id);
    expect(await content()).toEqual(value);
  });

  test("is whole for each of many who make it at once, and the same for all", async () => {
    const keyrings = await Promise.all(Array.from({ length: 20 }, () => openKeyring(file, { create: true })));
    expect(new Set(keyrings.map(({ id }) => id)).size).toBe(1);
    expect(await readdir(folder)).toEqual(["keyring.json"]);
    const first = keyrings[0] ?? expect.unreachable();
    const wrap = await first.wrap(randomBytes(32), context);
    for (const keyring of keyrings) await keyring.unwrap(wrap, context);
  });

  test("is whole from the moment it is there, so that a crash never leaves a part of it", async () => {
    for (let round = 0; round < 40; round++) {
      const path = join(folder, `${round}.json`);
      const states = new Set<number>();
      const made = openKeyring(path, { create: true }).then(() => true);
      while (!(await Promise.race([made, setImmediate(false)]))) {
        if (existsSync(path)) states.add(readFileSync(path).length);
      }
      const { size } = await stat(path);
      expect([...states, size]).toEqual(Array(states.size + 1).fill(size));
    }
  });

  test("is neither taken from nor spoilt by what a crash left behind", async () => {
    await writeFile(`${file}.0123456789ab.tmp`, '{"format":"tacenda-keyr', { mode: 0o600 });
    await openKeyring(file, { create: true });
    await openKeyring(file, { create: false });
  });

  test("opens from a folder that cannot be written to, and through a symbolic link", async () => {
    await openKeyring(file, { create: true });
    const target = await content();
    const inner = join(folder, "elsewhere");
    await mkdir(inner);
    await symlink(file, join(inner, "link.json"));
    await chmod(inner, 0o500);
    const before = await stat(inner);
    const keyring = await openKeyring(join(inner, "link.json"), { create: true });
    expect(keyring.id).toBe(`local:${target.id}`);
    // Who runs as root can write there all the same: nothing must have been tried.
    expect((await stat(inner)).mtimeMs).toBe(before.mtimeMs);
  });

  test("that is missing is refused, and not made unless asked", async () => {
    expect(await refusal()).toContain(
      "or name it with --keyring. Without it nothing can be opened that was written under it.",
    );
    expect(await refusal()).not.toContain("data directory");
    expect(await readdir(folder)).toEqual([]);
  });

  test("is not made behind a dangling link or in a missing folder", async () => {
    await symlink(join(folder, "nowhere", "keyring.json"), file);
    expect(await refusal(true)).toContain("no keyring");
    file = join(folder, "missing", "keyring.json");
    expect(await refusal(true)).toContain("folder must exist");
  });

  test.each([0o640, 0o620, 0o604, 0o602, 0o660, 0o666])("with mode %o is refused", async (mode) => {
    await openKeyring(file, { create: true });
    await chmod(file, mode);
    expect(await refusal()).toContain(`chmod 600 ${file}`);
    await chmod(file, 0o400);
    await openKeyring(file, { create: false });
  });

  test("that is a folder is refused", async () => {
    await mkdir(file, { mode: 0o700 });
    expect(await refusal()).toContain("is not a file");
  });

  test("of an unknown format is refused", async () => {
    const value = await saveVersions(1);
    await save({ ...value, format: "tacenda-keyring/3" });
    expect(await refusal()).toContain("format is not known");
  });

  test("that is malformed is refused, and no message tells a key", async () => {
    const value = await saveVersions(2);
    const [first, second] = value.keys as [FileKey, FileKey];
    const texts = [
      "",
      "null",
      "[]",
      JSON.stringify(value).slice(0, -20),
      // The parser's error quotes what stands around the place where it fails.
      JSON.stringify(value).replace('"key":"', '"key":x'),
      ...[
        { ...value, extra: 1 },
        { ...value, id: value.id.toUpperCase().replace(/^./, "G") },
        { ...value, current: 3 },
        { ...value, current: "2" },
        { ...value, keys: [] },
        { ...value, current: 1, keys: [first, first] },
        { ...value, keys: [first, { ...second, createdAt: "yesterday" }] },
        { ...value, keys: [first, { ...second, check: undefined }] },
      ].map((each) => JSON.stringify(each)),
    ];
    for (const text of texts) {
      await writeFile(file, text, { mode: 0o600 });
      const error: unknown = await openKeyring(file, { create: true }).catch((reason: unknown) => reason);
      expect(error, text).toBeInstanceOf(KeyringError);
      const shown = `${(error as Error).message} ${(error as Error).stack ?? ""} ${String((error as Error).cause)}`;
      expect(shown).toContain("restore it from its backup");
      for (let start = 0; start + 6 <= second.key.length; start++) {
        expect(shown).not.toContain(second.key.slice(start, start + 6));
        expect(shown).not.toContain(first.key.slice(start, start + 6));
      }
    }
  });

  test("with a damaged key opens for the others, and names its version when it is needed", async () => {
    const value = await saveVersions(3);
    const [first, second, third] = value.keys as [FileKey, FileKey, FileKey];
    const wraps: Wrap[] = [];
    for (const current of [1, 2, 3]) {
      await save({ ...value, current });
      wraps.push(await (await openKeyring(file, { create: false })).wrap(randomBytes(32), context));
    }
    const key = Buffer.from(second.key, "base64url");
    key[7] = (key[7] ?? 0) ^ 1;
    for (const damaged of [key.toString("base64url"), `${second.key}=`, second.key.slice(0, -2), ""]) {
      await save({ ...value, keys: [first, { ...second, key: damaged }, third] });
      const keyring = await openKeyring(file, { create: false });
      const results = await Promise.allSettled(wraps.map((wrap) => keyring.unwrap(wrap, context)));
      expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
      await expect(keyring.unwrap(wraps[1] ?? expect.unreachable(), context)).rejects.toMatchObject({
        fault: "refused",
        message: expect.stringMatching(/version 2 .* is damaged/) as unknown,
      });
      await keyring.health();
      // What is left of the damaged key may be all there is.
      await expect(keyring.masterKeys.rotate()).rejects.toThrow("damaged key");
    }
    await save({ ...value, keys: [first, second, { ...third, key: second.key }] });
    await expect((await openKeyring(file, { create: false })).health()).rejects.toThrow("version 3");
  });

  test("changed by several at once loses no key that one of them made", async () => {
    await openKeyring(file, { create: true });
    const keyrings = await Promise.all(Array.from({ length: 4 }, () => openKeyring(file, { create: false })));
    const made = await Promise.all(
      keyrings.map(async (keyring) => {
        const versions: number[] = [];
        const wraps: Wrap[] = [];
        for (let round = 0; round < 5; round++) {
          versions.push(await keyring.masterKeys.rotate());
          wraps.push(await keyring.wrap(randomBytes(32), context));
        }
        return { versions, wraps };
      }),
    );
    const versions = made.flatMap((one) => one.versions);
    expect(new Set(versions).size).toBe(20);
    const keyring = await openKeyring(file, { create: false });
    expect((await keyring.masterKeys.versions()).map(({ version }) => version)).toHaveLength(21);
    for (const wrap of made.flatMap((one) => one.wraps)) await keyring.unwrap(wrap, context);
  });

  test("leaves no other file with keys behind, not even after a crash", async () => {
    const keyring = await openKeyring(file, { create: true });
    const left = `${file}.0123456789ab.tmp`;
    await writeFile(left, await readFile(file), { mode: 0o600 });
    await keyring.masterKeys.rotate();
    expect((await readdir(folder)).sort()).toEqual(["keyring.json", "keyring.json.lock"]);
  });

  test("without a key that can be used is refused, and names the versions", async () => {
    const value = await saveVersions(2);
    await save({ ...value, id: "0".repeat(32) });
    expect(await refusal()).toContain("Key version 1, 2");
  });

  test("with any byte changed is refused, or holds the very same keys", async () => {
    const keyring = await openKeyring(file, { create: true });
    const key = randomBytes(32);
    const wrap = await keyring.wrap(key, context);
    const bytes = await readFile(file);
    let refused = 0;
    for (let index = 0; index < bytes.length; index++) {
      for (const mask of [0x01, 0x20, 0x80]) {
        const changed = Buffer.from(bytes);
        changed[index] = (changed[index] ?? 0) ^ mask;
        await writeFile(file, changed);
        const opened = await openKeyring(file, { create: false }).catch((error: unknown) => {
          expect(error).toBeInstanceOf(KeyringError);
          return null;
        });
        if (opened === null) {
          refused++;
          continue;
        }
        expect(opened.id).toBe(keyring.id);
        expect(await opened.currentVersion()).toBe(1);
        expect(await opened.unwrap(wrap, context)).toEqual(key);
      }
    }
    // Only some digits of createdAt and some white space can change without being noticed.
    expect(refused).toBeGreaterThan(bytes.length * 3 - 40);
  });
});

describe("wraps", () => {
  test("have the bytes of the specification", async () => {
    const keyring = await openKeyring(file, { create: true });
    const master = Buffer.from((await content()).keys[0]?.key ?? "", "base64url");
    const key = randomBytes(32);
    const wrap = await keyring.wrap(key, context);
    const wrapping = { ...context, masterVersion: 1 };
    expect(wrap.masterVersion).toBe(1);
    expect(wrap.wrapped).toHaveLength(65);
    expect(Buffer.from(wrap.wrapped).subarray(0, 5)).toEqual(Buffer.from("0100000001", "hex"));
    expect(reference.unwrap(master, wrapping, Buffer.from(wrap.wrapped))).toEqual(key);

    const made = reference.wrap(master, wrapping, randomBytes(12), key);
    expect(await keyring.unwrap({ masterVersion: 1, wrapped: made }, context)).toEqual(key);
    expect((await keyring.wrap(key, context)).wrapped).not.toEqual(wrap.wrapped);
  });

  test("are made under the current master key, and open under every one there is", async () => {
    const value = await saveVersions(3);
    const third = await openKeyring(file, { create: false });
    expect(await third.currentVersion()).toBe(3);
    const key = randomBytes(32);
    const wrap = await third.wrap(key, context);
    expect(wrap.masterVersion).toBe(3);

    await save({ ...value, current: 2 });
    const second = await openKeyring(file, { create: false });
    expect((await second.wrap(key, context)).masterVersion).toBe(2);
    expect(await second.unwrap(wrap, context)).toEqual(key);

    await save({ ...value, current: 2, keys: value.keys.slice(0, 2) });
    const without = await openKeyring(file, { create: false });
    await expect(without.unwrap(wrap, context)).rejects.toMatchObject({
      name: "KeyProviderError",
      fault: "refused",
      message: expect.stringContaining("Master-key version 3") as unknown,
    });
  });

  test("open for nothing but what they were made for", async () => {
    const keyring = await openKeyring(file, { create: true });
    const wrap = await keyring.wrap(randomBytes(32), context);
    const others: Partial<WrapContext>[] = [
      { project: "other" },
      { store: "other" },
      { purpose: "index" },
      { version: 2 },
      { project: "defaultu", store: "ser-tokens" },
    ];
    for (const other of others) {
      await expect(keyring.unwrap(wrap, { ...context, ...other })).rejects.toMatchObject({ fault: "refused" });
    }
    await keyring.unwrap(wrap, context);
  });

  test("do not open with any bit changed, shortened, lengthened, or as another master version's", async () => {
    await saveVersions(2);
    const keyring = await openKeyring(file, { create: false });
    const wrap = await keyring.wrap(randomBytes(32), context);
    const bytes = Buffer.from(wrap.wrapped);
    const changed = Array.from(bytes, (byte, index) => {
      const copy = Buffer.from(bytes);
      copy[index] = byte ^ (1 << (index % 8));
      return copy;
    });
    for (const wrapped of [
      ...changed,
      bytes.subarray(0, 64),
      Buffer.concat([bytes, Buffer.alloc(1)]),
      Buffer.alloc(0),
    ]) {
      await expect(keyring.unwrap({ masterVersion: 2, wrapped }, context)).rejects.toMatchObject({ fault: "refused" });
    }
    await expect(keyring.unwrap({ ...wrap, masterVersion: 1 }, context)).rejects.toMatchObject({ fault: "refused" });
    const relabelled = Buffer.from(bytes);
    relabelled.writeUInt32BE(1, 1);
    await expect(keyring.unwrap({ masterVersion: 1, wrapped: relabelled }, context)).rejects.toMatchObject({
      fault: "refused",
    });
    await keyring.unwrap(wrap, context);
  });

  test("hold keys of 32 bytes only", async () => {
    const keyring = await openKeyring(file, { create: true });
    await expect(keyring.wrap(randomBytes(31), context)).rejects.toMatchObject({ fault: "refused" });
    await expect(keyring.health()).resolves.toBeUndefined();
  });
});
