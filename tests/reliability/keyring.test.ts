/** A server without its keyring, or with another's, refuses to start and says why; with it all values are back. */

import { copyFile, rename } from "node:fs/promises";
import { join } from "node:path";

import { Tacenda, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { expect, test } from "vitest";

import { freshFolder, spawnServer } from "../server-process.ts";

const ROOT_TOKEN = "root-token-of-the-keyring-test-0123456789abc";
const KEYS = ["github:1", "github:2", "stripe"];

test("a missing or foreign keyring is refused, and nothing is lost by it", async () => {
  const folder = await freshFolder();
  const dataDir = join(folder, "data");
  const keyring = join(dataDir, "keyring.json");
  const aside = join(folder, "keyring-aside.json");
  const secret = generateSecret();
  const start = () => spawnServer({ dataDir, rootToken: ROOT_TOKEN });
  const storeAt = (url: string) =>
    new Tacenda({ url, token: ROOT_TOKEN }).getStore("kept", { secret, stretch: "store" });

  const first = await start();
  await new TacendaAdmin({ url: first.url, token: ROOT_TOKEN }).stores.create("kept");
  for (const key of KEYS) await storeAt(first.url).setValue(key, `value of ${key}`);
  await first.end("SIGTERM");

  await rename(keyring, aside);
  await expect(start()).rejects.toThrow(`Restore the file ${keyring}`);
  // A refused start must not have made a keyring in its place.
  await expect(start()).rejects.toThrow(`Restore the file ${keyring}`);

  const foreign = join(folder, "foreign");
  await (await spawnServer({ dataDir: foreign })).end("SIGTERM");
  await copyFile(join(foreign, "keyring.json"), keyring);
  await expect(start()).rejects.toThrow("This is another keyring");

  await rename(aside, keyring);
  const last = await start();
  for (const key of KEYS) expect(await storeAt(last.url).getValue(key)).toBe(`value of ${key}`);
  await last.end("SIGTERM");
});
