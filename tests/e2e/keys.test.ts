/** Key operations from outside: the commands of tacenda-server and the SDK's admin, against a server process. */

import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import type { KeyStatus } from "@tacenda/protocol";
import { Tacenda, TacendaError, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { describe, expect, test } from "vitest";

import { freshFolder, runCommand, spawnServer } from "../server-process.ts";

const ROOT_TOKEN = "root-token-of-the-keys-test-0123456789abcdef";

async function open() {
  const folder = await freshFolder();
  const dataDir = join(folder, "data");
  const [old, next] = [join(folder, "old.json"), join(folder, "next.json")];
  const flags = ["--key-provider", `local:${old}`, "--key-provider", `local:${next}`, "--metrics-port", "0"];
  const server = await spawnServer({ dataDir, rootToken: ROOT_TOKEN, flags });
  const admin = new TacendaAdmin({ url: server.url, token: ROOT_TOKEN });
  await admin.stores.create("user-tokens");
  const store = new Tacenda({ url: server.url, token: ROOT_TOKEN }).getStore("user-tokens", {
    secret: generateSecret(),
    stretch: "store",
  });
  await store.setValue("github:1", "ghp_1");
  const keys = (...words: string[]) =>
    runCommand(["keys", ...words, "--url", server.url], { env: { TACENDA_ROOT_TOKEN: ROOT_TOKEN } });
  return { folder, dataDir, server, admin, store, keys, files: { old, next } };
}

describe("the commands", () => {
  test("rotate, retire, destroy, move and re-encrypt, and say what they did", async () => {
    const { server, store, keys } = await open();
    const status = await keys("status");
    expect(status.code).toBe(0);
    expect(status.output).toMatch(/^local:[0-9a-f]{32} \(active, ok\)\n {2}version 1: current, .*wraps 2 store keys$/m);

    expect((await keys("rotate")).output).toContain("Every store key is wrapped under the current master key.");
    expect((await keys("retire", "2")).code).toBe(1);
    expect((await keys("retire", "2")).output).toContain("rotate first");
    expect((await keys("retire", "1")).output).toContain("version 1");
    const unsure = await keys("destroy-master", "1");
    expect([unsure.code, unsure.output]).toEqual([2, expect.stringContaining("--yes") as unknown]);
    expect((await keys("destroy-master", "1", "--yes")).output).toMatch(/^Destroyed: master-key version 1 of local:/);

    const moved = await keys("migrate", "--to", await idOf(keys, 1));
    expect(moved.output).toMatch(/Nothing in the database refers to local:[0-9a-f]{32} any more/);
    const store1 = await keys("rotate-data", "default/user-tokens", "--reencrypt");
    expect(store1.output).toMatch(/^data key 2: active/);
    expect(store1.output).not.toContain("data key 1");
    expect(await store.getValue("github:1")).toBe("ghp_1");

    const metrics = await (await fetch(server.metricsUrl ?? "")).text();
    expect(metrics).toContain("tacenda_outdated_key_wraps 0");
    expect(metrics).toMatch(
      /tacenda_key_provider_duration_seconds_count\{kind="local",operation="unwrap",outcome="ok"\}/,
    );
    expect(server.output()).toContain("store keys were wrapped anew");
    expect(server.output()).not.toMatch(/user-tokens|local:[0-9a-f]{32}/);
  });

  test("print JSON for programs", async () => {
    const { keys } = await open();
    const status = JSON.parse((await keys("status", "--json")).output) as KeyStatus;
    expect(status.providers).toHaveLength(2);
    expect((JSON.parse((await keys("rotate", "--json")).output) as KeyStatus).outdatedWraps).toBe(0);
  });

  test("say what is wrong, and never the token", async () => {
    const { server, keys, dataDir } = await open();
    await writeFile(join(dataDir, "root-token"), `${ROOT_TOKEN}y\n`);
    const cases: [words: string[], environment: Record<string, string>, code: number, says: RegExp][] = [
      [
        ["status", "--url", server.url],
        { TACENDA_ROOT_TOKEN: `${ROOT_TOKEN}x` },
        1,
        /the token of TACENDA_ROOT_TOKEN: it must be/,
      ],
      [
        ["status", "--url", server.url],
        { TACENDA_TOKEN: `${ROOT_TOKEN}x` },
        1,
        /the token of TACENDA_TOKEN: it must be/,
      ],
      [["status", "--url", server.url, "--data-dir", dataDir], {}, 1, /of the file \/.*\/data\/root-token: it must be/],
      [["status", "--url", server.url, "--data-dir", "/nowhere"], {}, 2, /Set TACENDA_ROOT_TOKEN/],
      [["status", "--url", "http://127.0.0.1:1"], { TACENDA_ROOT_TOKEN: ROOT_TOKEN }, 1, /No server answers at/],
      [["status", "--url", "http://192.0.2.1:80"], { TACENDA_ROOT_TOKEN: ROOT_TOKEN }, 2, /must be https/],
      [["store", "user-tokens", "--url", server.url], { TACENDA_ROOT_TOKEN: ROOT_TOKEN }, 2, /project\/store/],
      [["retire", "one", "--url", server.url], { TACENDA_ROOT_TOKEN: ROOT_TOKEN }, 2, /whole number/],
      [["migrate", "--url", server.url], { TACENDA_ROOT_TOKEN: ROOT_TOKEN }, 2, /--to/],
    ];
    for (const [words, environment, code, says] of cases) {
      const result = await runCommand(["keys", ...words], { env: environment });
      expect([words.join(" "), result.code]).toEqual([words.join(" "), code]);
      expect(result.output).toMatch(says);
      expect(result.output).not.toContain(ROOT_TOKEN);
    }
    expect((await keys("retire", "9")).output).toContain("has no master-key version 9");
  });
});

test("the SDK's admin does the same, and tells a key in use as such", async () => {
  const { admin, store } = await open();
  const { masterVersion } = await admin.keys.rotate();
  expect(masterVersion).toBe(2);
  await expect.poll(async () => (await admin.keys.status()).outdatedWraps).toBe(0);
  const error: unknown = await admin.keys.retire({ version: 2 }).catch((reason: unknown) => reason);
  expect(TacendaError.is(error, "key_in_use")).toBe(true);
  await admin.keys.retire({ version: 1 });
  await admin.keys.reinstate({ version: 1 });
  await admin.keys.retire({ version: 1 });
  expect((await admin.keys.destroy({ version: 1 })).destroyed).toContain("master-key version 1");
  expect((await admin.keys.rotateData("user-tokens", { reencrypt: true })).keys.length).toBeGreaterThan(1);
  await expect.poll(async () => (await admin.keys.ofStore("user-tokens")).keys.length).toBe(2);
  await admin.keys.reencrypt("user-tokens");
  expect(await store.getValue("github:1")).toBe("ghp_1");
  const receipt = await admin.stores.delete("user-tokens");
  expect(receipt.keys.map(({ purpose }) => purpose)).toEqual(["data", "index"]);
  await expect(admin.keys.ofStore("user-tokens")).rejects.toMatchObject({ code: "store_not_found" });
});

async function idOf(keys: (...words: string[]) => Promise<{ output: string }>, index: number): Promise<string> {
  const { providers } = JSON.parse((await keys("status", "--json")).output) as KeyStatus;
  return providers[index]?.id ?? "";
}
