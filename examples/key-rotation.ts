/**
 * An operator's day: the master key and a store's data key are rotated and all keys moved to another provider, while a backend
 * goes on reading and writing. Two keyring files stand for the providers; a hardware token or a KMS is named in their place.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { Tacenda, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";

import { startLocalServer } from "./local-server.ts";

const folder = await mkdtemp(join(tmpdir(), "tacenda-keyrings-"));
const keyProviders = [`local:${join(folder, "old.json")}`, `local:${join(folder, "new.json")}`];
await using server = await startLocalServer({ keyProviders });
const { url } = server;
const admin = new TacendaAdmin({ url, token: server.rootToken });
await admin.stores.create("user-tokens");
const store = new Tacenda({ url, token: server.rootToken }).getStore("user-tokens", {
  secret: generateSecret(),
  stretch: "store",
});

/** The backend: writes and reads until it is told to stop. Any failure ends the example. */
const backend = { calls: 0, isRunning: true };
const running = (async () => {
  for (let user = 0; backend.isRunning; user++) {
    await store.setValue(`github:${user % 50}`, `token-${user}`);
    if ((await store.getValue(`github:${user % 50}`)) !== `token-${user}`) throw new Error("A value was lost.");
    backend.calls += 2;
  }
})();

/** The work goes on in the background; `status` tells how far it has come. */
async function finished(): Promise<void> {
  for (;;) {
    const { outdatedWraps, reencryptions } = await admin.keys.status();
    if (outdatedWraps + reencryptions.length === 0) return;
    await sleep(50);
  }
}

const { masterVersion } = await admin.keys.rotate();
await finished();
await admin.keys.retire({ version: masterVersion - 1 });
console.log(`Every store key is under master-key version ${masterVersion}, and the one before opens nothing any more.`);

await admin.keys.rotateData("user-tokens", { reencrypt: true });
await finished();
const { keys } = await admin.keys.ofStore("user-tokens");
console.log("Keys of the store:", keys.map(({ purpose, version }) => `${purpose} ${version}`).join(", "));

const [, next] = (await admin.keys.status()).providers;
if (next === undefined) throw new Error("There are two providers.");
await admin.keys.migrate(next.id);
await finished();
const old = (await admin.keys.status()).providers.find(({ id }) => id !== next.id);
const left = old?.versions.reduce((sum, { wraps }) => sum + wraps, 0);
console.log(`The old provider wraps ${left} keys: it can be taken out of the configuration.`);

backend.isRunning = false;
await running;
console.log(`${backend.calls} calls of the backend succeeded meanwhile.`);

const receipt = await admin.stores.delete("user-tokens");
console.log(`Destroyed: ${receipt.destroyed}. What would still open it:`);
for (const sentence of receipt.stillOpenedBy) console.log(`- ${sentence}`);
await rm(folder, { recursive: true });
