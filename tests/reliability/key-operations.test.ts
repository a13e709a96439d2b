/**
 * Rotating, re-encrypting and moving keys from a keyring to a hardware token, a transit engine and another keyring, while eight
 * clients read and write: no call fails, no value is another one, and in the end nothing needs the earlier keys.
 */

import { join } from "node:path";

import { generateSecret } from "@tacenda/sdk";
import type { TacendaAdmin } from "@tacenda/sdk/admin";
import { describe, expect, onTestFinished, test } from "vitest";

import { PIN, SoftHsm, hasSoftHsm } from "../../packages/server/test/envelope/providers/softhsm.js";
import { TransitDouble, leastPolicy } from "../../packages/server/test/envelope/providers/transit-double.js";
import { seedServer } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder, runCommand, spawnServer } from "../server-process.ts";
import { ROOT_TOKEN, STORE, adminOf, fill, mastersInUse, misread, settled } from "./key-world.ts";
import { DATA_KEY_DELETED_EARLY } from "./seeded-bugs.ts";
import { SteadyLoad } from "./steady-load.ts";

const CLIENTS = 8;
/** How often the whole tour of operations is made. */
const TOURS = Number(process.env.TACENDA_KEY_TOURS ?? 1);
const CONTENTS = { stores: 60, records: 200, versions: 3, bytes: 6_000 };

/** Two keyrings with a token, where there is one, and a transit engine between them, and what a server needs to use them. */
async function openProviders(folder: string, withToken: boolean) {
  const [first, last] = [`local:${join(folder, "first.json")}`, `local:${join(folder, "last.json")}`];
  const double = await TransitDouble.start();
  onTestFinished(() => double.stop());
  double.createKey("tour");
  const transit = `transit:${double.url}/transit/keys/tour`;
  const env = { TACENDA_TRANSIT_TOKEN: double.createToken({ policy: leastPolicy("transit", "tour") }) };
  if (!withToken) return { uris: [first, transit, last], env, last };
  const hsm = await SoftHsm.create("tour");
  onTestFinished(() => hsm.remove());
  const hsmEnv = { TACENDA_PKCS11_PIN: PIN, SOFTHSM2_CONF: hsm.path("softhsm2.conf") };
  return { uris: [first, hsm.uri("tour"), transit, last], env: { ...env, ...hsmEnv }, last };
}

/** Runs an operation to its end, and checks that traffic went on meanwhile. */
async function during(load: SteadyLoad, name: string, admin: TacendaAdmin, begin: () => Promise<unknown>) {
  const [calls, started] = [load.calls, performance.now()];
  await begin();
  const status = await settled(admin);
  const milliseconds = Math.round(performance.now() - started);
  expect(load.calls - calls, `no call came in during: ${name}`).toBeGreaterThan(0);
  expect(mastersInUse(status), name).toHaveLength(1);
  return { name, milliseconds, calls: load.calls - calls, status };
}

async function tour(admin: TacendaAdmin, load: SteadyLoad, ids: readonly string[]) {
  const { keys } = admin;
  const others = ids.slice(1);
  const done = [
    await during(load, "rotating the master key", admin, () => keys.rotate()),
    await during(load, "re-encrypting", admin, () => keys.rotateData(STORE, { reencrypt: true })),
  ];
  expect((await keys.ofStore(STORE)).keys.map(({ purpose }) => purpose)).toEqual(["data", "index"]);
  for (const id of others) {
    done.push(await during(load, `moving to ${id}`, admin, () => keys.migrate(id)));
    done.push(await during(load, "rotating the master key there", admin, () => keys.rotate()));
  }

  const last = done.at(-1)?.status ?? expect.unreachable();
  const [used] = mastersInUse(last);
  expect(used?.provider).toBe(others.at(-1));
  for (const { id, currentVersion, versions } of last.providers) {
    for (const { version, state } of versions) {
      // The current one of a provider that is not needed any more goes with the provider's configuration.
      if (version === currentVersion || state !== "enabled") continue;
      await keys.retire({ provider: id, version });
      const receipt = await keys.destroy({ provider: id, version });
      expect(receipt.keys).toEqual([{ provider: id, masterVersion: version }]);
    }
  }
  return done;
}

/** Gives what went wrong. */
async function operateUnderLoad(bin: string, withToken: boolean): Promise<string[]> {
  const folder = await freshFolder();
  const dataDir = join(folder, "data");
  const { uris, env, last } = await openProviders(folder, withToken);
  const flagsOf = (chosen: readonly string[]) => chosen.flatMap((uri) => ["--key-provider", uri]);
  const start = (chosen: readonly string[]) =>
    spawnServer({ bin, dataDir, env, rootToken: ROOT_TOKEN, flags: flagsOf(chosen) });
  const verify = async (chosen: readonly string[]) => {
    const { code, output } = await runCommand(["verify", "--data-dir", dataDir, ...flagsOf(chosen)], { bin, env });
    return code === 0 && output.includes("everything opens") ? [] : [`verify ends with ${code}: ${output}`];
  };
  const secret = generateSecret();
  const server = await start(uris);
  const rows = await fill(server.url, secret, CONTENTS);
  const admin = adminOf(server.url);
  const ids = (await admin.keys.status()).providers.map(({ id }) => id);
  const load = new SteadyLoad(server.url, secret, CLIENTS);
  const done = [];
  for (let count = 0; count < TOURS; count++) {
    if (count > 0) done.push(await during(load, "moving back", admin, () => admin.keys.migrate(ids[0] ?? "")));
    done.push(...(await tour(admin, load, ids)));
  }
  await load.stop();
  console.table(done.map(({ name, milliseconds, calls }) => ({ name, milliseconds, calls })));
  console.log(`${load.reads} reads, ${load.writes} writes, ${load.retries} sent again, ${load.faults.length} faults`);
  const faults = [...load.faults, ...(await misread(server.url, secret, rows))];
  await server.end("SIGTERM");
  faults.push(...(await verify(uris)));

  await expect(start(uris.slice(0, -1))).rejects.toThrow(/the database needs/i);
  const after = await start([last]);
  faults.push(...(await misread(after.url, secret, [...rows, ...load.rows])));
  const { providers } = await adminOf(after.url).keys.status();
  expect(providers.map(({ id, health }) => [id, health])).toEqual([[ids.at(-1), "ok"]]);
  await after.end("SIGTERM");
  return [...faults, ...(await verify([last]))];
}

describe(`key operations under ${CLIENTS} clients`, { timeout: 120_000 * TOURS }, () => {
  test("this machine has SoftHSM and pkcs11js", (context) => {
    if (!hasSoftHsm && process.env.CI === undefined) context.skip("run node scripts/install-hsm.mjs to check");
    expect(hasSoftHsm, "scripts/install-hsm.mjs must have run where CI is set").toBe(true);
  });

  // Without a token the tour is shorter, and still worth making.
  test(`fail nobody's call${hasSoftHsm ? "" : ", without a hardware token"}`, async () => {
    expect(await operateUnderLoad(SERVER_BIN, hasSoftHsm)).toEqual([]);
  });

  test("this suite catches a data key that is deleted too early", async () => {
    const bin = await seedServer(await freshFolder(), DATA_KEY_DELETED_EARLY);
    const faults = (await operateUnderLoad(bin, false)).join("\n");
    expect(faults).toContain("verify ends with 1");
    expect(faults).toMatch(/reading (client|kept)/);
  });
});
