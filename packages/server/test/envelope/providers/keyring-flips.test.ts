/**
 * Any byte of a keyring with three master keys flipped: the file is refused by its name, or one key of it is damaged and the others
 * work; spec/envelope.md § Keyring file.
 */

import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { KeyProviderError, type Wrap, type WrapContext } from "../../../src/envelope/key-provider.js";
import { KeyringError, openKeyring, type LocalKeyring } from "../../../src/envelope/providers/local-keyring.js";

const VERSIONS = [1, 2, 3] as const;
const contextOf = (version: number): WrapContext => ({
  project: "default",
  store: `s${version}`,
  purpose: "data",
  version: 1,
});

/** A keyring that was rotated twice, and a store key wrapped under each of its versions. */
async function makeKeyring() {
  const folder = await mkdtemp(join(tmpdir(), "tacenda-flips-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = join(folder, "keyring.json");
  const keyring = await openKeyring(file, { create: true });
  const wraps: { wrap: Wrap; key: Buffer }[] = [];
  for (const version of VERSIONS) {
    if (version > 1) await keyring.masterKeys.rotate();
    const key = randomBytes(32);
    wraps.push({ wrap: await keyring.wrap(Uint8Array.from(key), contextOf(version)), key });
  }
  const { keys } = JSON.parse(await readFile(file, "utf8")) as { keys: { key: string; check: string }[] };
  const known = await keyring.masterKeys.versions();
  return { file, keyring, known, wraps, keys, secrets: keys.map(({ key }) => key) };
}

type Keyring = Awaited<ReturnType<typeof makeKeyring>>;

/** Not six characters in a row of any key are in what is shown. */
function expectSilence(shown: string, { secrets }: Keyring): void {
  for (const secret of secrets) {
    for (let start = 0; start + 6 <= secret.length; start++) {
      expect(shown.includes(secret.slice(start, start + 6))).toBe(false);
    }
  }
}

/** The versions whose wraps do not open. Those that do open give the very key. */
async function closedVersions(opened: LocalKeyring, made: Keyring): Promise<number[]> {
  const closed: number[] = [];
  for (const [index, { wrap, key }] of made.wraps.entries()) {
    try {
      expect(Buffer.compare(await opened.unwrap(wrap, contextOf(wrap.masterVersion)), key)).toBe(0);
    } catch (error) {
      if (!(error instanceof KeyProviderError)) throw error;
      expect(error.message).toContain(`version ${wrap.masterVersion}`);
      expect(error.message).toContain("damaged");
      expectSilence(`${error.message} ${error.stack ?? ""}`, made);
      closed.push(VERSIONS[index] ?? expect.unreachable());
    }
  }
  return closed;
}

test.each([0x01, 0x20])("every byte, by mask %i", async (mask) => {
  const made = await makeKeyring();
  const { file, keyring, known, keys } = made;
  const bytes = await readFile(file);
  let refused = 0;
  const damaged = [0, 0, 0];
  for (let place = 0; place < bytes.length; place++) {
    const changed = Buffer.from(bytes);
    changed[place] = (changed[place] ?? 0) ^ mask;
    await writeFile(file, changed);
    const opened = await openKeyring(file, { create: true }).catch((error: unknown) => error);
    if (opened instanceof Error) {
      expect(opened, `byte ${place}`).toBeInstanceOf(KeyringError);
      expect(opened.message).toContain(file);
      expectSilence(`${opened.message} ${opened.stack ?? ""} ${String(opened.cause)}`, made);
      refused++;
      continue;
    }
    const flipped = opened as LocalKeyring;
    expect(flipped.id).toBe(keyring.id);
    expect(await flipped.currentVersion()).toBe(3);
    const closed = await closedVersions(flipped, made);
    const states = known.map((one) => (closed.includes(one.version) ? { ...one, state: "damaged" } : one));
    expect(await flipped.masterKeys.versions(), `byte ${place}`).toEqual(states);
    const [version = expect.unreachable(), ...others] = closed;
    expect(others).toEqual([]);
    damaged[version - 1] = (damaged[version - 1] ?? 0) + 1;
    // New wraps are made under the current key, or not at all; and nobody overwrites what is left of a damaged one.
    const wrap = flipped.wrap(randomBytes(32), contextOf(1));
    if (version === 3) await expect(wrap).rejects.toMatchObject({ fault: "refused" });
    else expect(await wrap).toMatchObject({ masterVersion: 3 });
    await expect(flipped.masterKeys.rotate()).rejects.toThrow("damaged key");
  }
  // A character of a key or of its check damages this key, unless it became one that JSON does not allow. All else is refused.
  const textsOf = (text: string) => Buffer.from(text).filter((byte) => (byte ^ mask) >= 0x20).length;
  expect(damaged).toEqual(keys.map(({ key, check }) => textsOf(key + check)));
  expect(refused).toBe(bytes.length - damaged.reduce((sum, count) => sum + count, 0));
});
