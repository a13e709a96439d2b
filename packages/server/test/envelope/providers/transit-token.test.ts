/** Tokens and URIs of the transit key provider; spec/envelope.md § Transit. */

import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { afterEach, beforeEach, describe, expect, test } from "vitest";

import type { KeyProvider } from "../../../src/envelope/key-provider.js";
import { openKeyProvider } from "../../../src/envelope/open-key-provider.js";
import { InvalidOptionError, StartupError } from "../../../src/startup-error.js";
import { TransitDouble, leastPolicy } from "./transit-double.js";

const policy = leastPolicy("transit", "one");

let double: TransitDouble;
let folder: string;
const opened: KeyProvider[] = [];

beforeEach(async () => {
  double = await TransitDouble.start();
  double.createKey("one");
  folder = await mkdtemp(join(tmpdir(), "tacenda-transit-"));
});

afterEach(async () => {
  for (const provider of opened.splice(0)) await provider.close();
  await double.stop();
  await rm(folder, { recursive: true });
});

async function open(environment: NodeJS.ProcessEnv, query = ""): Promise<KeyProvider> {
  const uri = `transit:${double.url}/transit/keys/one${query}`;
  const provider = await openKeyProvider(uri, { environment, create: false });
  opened.push(provider);
  return provider;
}

const calls = (path: string) => double.seen.filter((one) => one.path === path);

describe("renewal", () => {
  test("keeps a renewable token alive, at two thirds of its time", async () => {
    const provider = await open({ TACENDA_TRANSIT_TOKEN: double.createToken({ policy, ttl: 2, renewable: true }) });
    await provider.health();
    await sleep(3500);
    expect(calls("auth/token/renew-self").length).toBeGreaterThanOrEqual(2);
    expect(calls("auth/token/renew-self").length).toBeLessThanOrEqual(4);
    await provider.health();
  });

  test("tells that a token ends which cannot be renewed, before it does", async () => {
    const using = double.createToken({ policy, ttl: 30, renewable: false });
    await (await open({ TACENDA_TRANSIT_TOKEN: using })).health();
    // Thirty seconds, of which two are left.
    const short = double.createToken({ policy, ttl: 30, renewable: false, maxTtl: 2 });
    double.instead = ({ path }) => {
      const data = { ttl: 2, creation_ttl: 30, renewable: false, expire_time: "2030-01-01T00:00:00Z" };
      return path === "auth/token/lookup-self" ? { status: 200, body: JSON.stringify({ data }) } : undefined;
    };
    const provider = await open({ TACENDA_TRANSIT_TOKEN: short });
    await provider.currentVersion();
    await expect
      .poll(() => provider.health().catch((error: unknown) => String(error)))
      .toMatch(/ends in \d s and cannot/);
  });

  test("tells it of a token that has come to its maximum, which the server goes on calling renewable", async () => {
    const ttl = { ttl: 3, renewable: true, maxTtl: 5 };
    const provider = await open({ TACENDA_TRANSIT_TOKEN: double.createToken({ policy, ...ttl }) });
    const started = Date.now();
    let told = 0;
    while (Date.now() - started < 6000 && told === 0) {
      const message = await provider.health().then(
        () => "",
        (error: unknown) => String(error),
      );
      if (message.includes("cannot be renewed any more")) told = Date.now() - started;
      await sleep(50);
    }
    expect(told).toBeGreaterThan(3500);
    expect(told).toBeLessThan(5000);
  });

  test("leaves a token without end alone, and one that may not look itself up", async () => {
    for (const using of [
      double.createToken({ policy: "root" }),
      double.createToken({ policy, ttl: 600, withoutDefault: true }),
    ]) {
      await (await open({ TACENDA_TRANSIT_TOKEN: using })).health();
    }
    expect(calls("auth/token/renew-self")).toHaveLength(0);
  });

  test("does not go on asking about a token that has ended", async () => {
    const using = double.createToken({ policy, ttl: 2, renewable: false });
    const provider = await open({ TACENDA_TRANSIT_TOKEN: using });
    await provider.health();
    await sleep(2500);
    const before = double.seen.length;
    await sleep(1500);
    expect(double.seen.length - before).toBeLessThanOrEqual(1);
    await expect(provider.health()).rejects.toThrow("the token has ended");
  });

  test("stops when the provider is closed", async () => {
    const provider = await open({ TACENDA_TRANSIT_TOKEN: double.createToken({ policy, ttl: 2, renewable: true }) });
    await provider.health();
    await provider.close();
    const before = double.seen.length;
    await sleep(1600);
    expect(double.seen).toHaveLength(before);
  });
});

describe("a token file", () => {
  const query = () => `?token-file=${encodeURIComponent(join(folder, "token"))}`;

  test("is read again when it was replaced, and not missed while it is away", async () => {
    const file = join(folder, "token");
    const [first, second] = [double.createToken({ policy }), double.createToken({ policy })];
    const provider = await open({ TACENDA_TRANSIT_TOKEN: "not-this-one" }, query());
    await expect(provider.health()).rejects.toThrow(`token file ${file}`);
    await writeFile(file, `${first}\n`);
    await provider.health();
    await rm(file);
    await provider.health();
    await writeFile(file, "");
    await provider.health();
    expect(new Set(double.seen.map(({ token }) => token))).toEqual(new Set([first]));
    await writeFile(`${file}.new`, second);
    await rename(`${file}.new`, file);
    double.revoke(first);
    await provider.health();
    expect(double.seen.at(-1)?.token).toBe(second);
  });

  test("that holds no token is not sent or quoted", async () => {
    await writeFile(join(folder, "token"), "hvs.first line\r\nX-Other: 1");
    const provider = await open({}, query());
    await expect(provider.health()).rejects.toThrow(/^(?!.*first line).*holds no token/s);
    expect(double.seen).toEqual([]);
  });
});

describe("the token of the environment", () => {
  test("is ours, else OpenBao's, else Vault's", async () => {
    const [ours, bao, vault] = ["policy", "policy", "policy"].map(() => double.createToken({ policy }));
    const environment = { TACENDA_TRANSIT_TOKEN: ours, BAO_TOKEN: bao, VAULT_TOKEN: vault };
    await (await open(environment)).currentVersion();
    await (await open({ ...environment, TACENDA_TRANSIT_TOKEN: "" })).currentVersion();
    await (await open({ VAULT_TOKEN: vault })).currentVersion();
    expect(calls("transit/keys/one").map(({ token }) => token)).toEqual([ours, bao, vault]);
  });

  test("is needed at the start, and must be one", async () => {
    await expect(open({})).rejects.toThrow(StartupError);
    await expect(open({})).rejects.toThrow("TACENDA_TRANSIT_TOKEN");
    await expect(open({ TACENDA_TRANSIT_TOKEN: "a b\n" })).rejects.toThrow(/^TACENDA_TRANSIT_TOKEN holds no token/);
  });
});

describe("the URI", () => {
  const environment = { TACENDA_TRANSIT_TOKEN: "token" };
  const named = (uri: string) => openKeyProvider(uri, { environment, create: false });

  test.each([
    ["https://vault.example:8200/transit/keys/tacenda", "vault.example:8200/transit/keys/tacenda"],
    ["https://Vault.Example/team-a/transit/keys/k.1?namespace=a/b", "vault.example:443/team-a/transit/keys/k.1"],
    ["http://127.0.0.1/transit/keys/a", "127.0.0.1:80/transit/keys/a"],
    ["http://[::1]:8200/transit/keys/a", "[::1]:8200/transit/keys/a"],
    ["http://localhost:8200/transit/keys/a?token-file=/run/token", "localhost:8200/transit/keys/a"],
  ])("%s names a key without asking for it", async (uri, id) => {
    const provider = await named(`transit:${uri}`);
    expect(provider.id).toBe(`transit:${id}`);
    await provider.close();
  });

  test.each([
    ["", "no http or https URL"],
    ["vault.example/transit/keys/a", "no http or https URL"],
    ["ftp://vault.example/transit/keys/a", "no http or https URL"],
    ["http://vault.example:8200/transit/keys/a", "must be https"],
    ["http://127.0.0.1.example/transit/keys/a", "must be https"],
    ["https://user:hunter2@vault.example/transit/keys/a", "user or password"],
    ["https://vault.example/transit/keys/a#b", "# part"],
    ["https://vault.example/transit/a", "/MOUNT/keys/NAME"],
    ["https://vault.example/keys/a", "/MOUNT/keys/NAME"],
    ["https://vault.example/transit/keys/a/", "/MOUNT/keys/NAME"],
    ["https://vault.example/transit/keys/a%2Fb", "/MOUNT/keys/NAME"],
    ["https://vault.example/transit/keys/-a", "/MOUNT/keys/NAME"],
    ["https://vault.example//transit/keys/a", "/MOUNT/keys/NAME"],
    ["https://vault.example/v1/transit/keys/a", "Leave out /v1"],
    ["https://vault.example/transit/keys/a?token=hunter2", "only namespace= and token-file="],
    ["https://vault.example/transit/keys/a?namespace=a&namespace=b", "twice"],
    ["https://vault.example/transit/keys/a?namespace=a%0d%0ab", "path of names"],
    ["https://vault.example/transit/keys/a?token-file=", "token-file is not a path"],
    [`https://vault.example/transit/keys/${"a".repeat(500)}`, "longer than 512"],
  ])("%s is refused", async (uri, message) => {
    const error: unknown = await named(`transit:${uri}`).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(InvalidOptionError);
    expect(String(error)).toContain(message);
    expect(String(error)).not.toContain("hunter2");
  });

  test("gives the namespace to every call, those on the token too", async () => {
    const provider = await open({ TACENDA_TRANSIT_TOKEN: double.createToken({ policy }) }, "?namespace=team/a");
    await provider.health();
    await expect.poll(() => calls("auth/token/lookup-self").length).toBe(1);
    expect(new Set(double.seen.map(({ namespace }) => namespace))).toEqual(new Set(["team/a"]));
  });
});
