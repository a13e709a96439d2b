/** Two copies of one keyring on one database: the older one makes no key of its own; docs/postgresql.md § Several servers. */

import { copyFile } from "node:fs/promises";
import { join } from "node:path";

import { expect, test } from "vitest";

import { openConfiguredProviders } from "../../src/configured-providers.js";
import { KeyProviders } from "../../src/envelope/key-providers.js";
import { openKeyring } from "../../src/envelope/providers/local-keyring.js";
import { rotateDueMaster } from "../../src/keys/schedule.js";
import { openWorld } from "../envelope/world.js";

const LATER = Date.now() + 365 * 86_400_000;

async function openCopies() {
  const world = await openWorld();
  const [file, copy] = [join(world.folder, "keyring.json"), join(world.folder, "copy.json")];
  await copyFile(file, copy);
  const other = new KeyProviders([await openKeyring(copy, { create: false })], world.directory);
  /** Another start with the copy: what it logs. */
  const start = async () => {
    const log: string[] = [];
    const note = (_: object, message: string) => void log.push(message);
    const logger = { debug: note, info: note, warn: note, error: note };
    const providers = await openConfiguredProviders(world.database, { wanted: [], keyringFile: copy, logger });
    await providers.close();
    return log;
  };
  const rotate = async (providers: KeyProviders) => await providers.rotate(await providers.active());
  return { ...world, file, copy, other, start, rotate };
}

test("an old copy is not rotated, by command or by schedule, and can be once the newest is in its place", async () => {
  const { providers, other, file, copy, rotate } = await openCopies();
  expect(await rotate(providers)).toBe(2);
  const refused = rotate(other);
  await expect(refused).rejects.toMatchObject({ fault: "refused" });
  await expect(refused).rejects.toThrow("an old copy");
  await expect(rotateDueMaster(other, 1, LATER)).rejects.toMatchObject({ fault: "refused" });
  expect(await (await other.active()).currentVersion()).toBe(1);
  await copyFile(file, copy);
  expect(await rotate(other)).toBe(3);
  await expect(rotate(providers)).rejects.toMatchObject({ fault: "refused" });
});

test("a server that starts with an old copy says so", async () => {
  const { providers, rotate, start, file, copy } = await openCopies();
  expect(await start()).toEqual([]);
  await rotate(providers);
  expect(await start()).toEqual([expect.stringMatching(/old copy: its newest version is 1, and version 2 was made/)]);
  await copyFile(file, copy);
  expect(await start()).toEqual([]);
});
