/** The transit double refuses what the real engine refuses, so that tests on it can fail. */

import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { TransitDouble, leastPolicy } from "./transit-double.js";

let double: TransitDouble;
let token: string;

beforeEach(async () => {
  double = await TransitDouble.start();
  double.createKey("one");
  token = double.createToken({ policy: leastPolicy("transit", "one") });
});

afterEach(() => double.stop());

const get = (path: string, as: string) => fetch(`${double.url}/v1/${path}`, { headers: { "X-Vault-Token": as } });
const post = (path: string, as: string, body: unknown) =>
  fetch(`${double.url}/v1/${path}`, { method: "POST", headers: { "X-Vault-Token": as }, body: JSON.stringify(body) });

describe("the double", () => {
  test("checks tokens, policies, contexts and its own rules", async () => {
    expect((await get("transit/keys/one", "wrong")).status).toBe(403);
    expect((await get("transit/keys/other", token)).status).toBe(403);
    const root = double.createToken({ policy: "root" });
    expect((await get("transit/keys/other", root)).status).toBe(404);
    const error = async (path: string, body: unknown) => {
      const answer = await post(`transit/${path}`, root, body);
      expect(answer.status).toBe(400);
      return ((await answer.json()) as { errors: string[] }).errors[0];
    };
    expect(await error("encrypt/one", { plaintext: "AAAA" })).toContain("missing 'context'");
    expect(await error("encrypt/one", { plaintext: "AA", context: "AAAA" })).toContain("illegal base64");
    expect(await error("decrypt/none", { ciphertext: "vault:v1:AAAA", context: "AAAA" })).toContain("not found");
    expect(await error("decrypt/one", { ciphertext: "bao:v1:AAAA", context: "AAAA" })).toContain("no prefix");
    expect(await error("decrypt/one", { ciphertext: "vault:v9:AAAA", context: "AAAA" })).toContain("too new");
    expect(await error("decrypt/one", { ciphertext: "vault:v1:A", context: "AAAA" })).toContain("decode base64");
    expect(await error("keys/one/config", { min_decryption_version: 2 })).toContain("latest key version is 1");
    expect(await error("keys/one/trim", { min_available_version: 1 })).toContain(
      "minimum encryption version is not set",
    );
    for (let rotation = 0; rotation < 3; rotation++) await post("transit/keys/one/rotate", root, {});
    await post("transit/keys/one/config", root, { min_decryption_version: 3, min_encryption_version: 4 });
    expect(await error("keys/one/config", { min_encryption_version: 2 })).toContain("greater than or equal");
    expect(await error("keys/one/trim", { min_available_version: 4 })).toContain("greater than minimum decryption");
    expect((await post("transit/keys/one/trim", root, { min_available_version: 3 })).status).toBe(200);
    expect(await error("keys/one/config", { min_decryption_version: 2 })).toContain("less then min available");
    expect(await error("keys/one/trim", { min_available_version: 2 })).toContain("decremented");
    const { data } = (await (await get("transit/keys/one", root)).json()) as { data: { keys: object } };
    expect(Object.keys(data.keys)).toEqual(["3", "4"]);
  });

  test("makes a missing key where a policy lets it", async () => {
    const root = double.createToken({ policy: "root" });
    expect((await post("transit/encrypt/new", root, { plaintext: "AAAA", context: "AAAA" })).status).toBe(200);
    expect(double.keys.get("new")?.attributes.derived).toBe(true);
    const poor = double.createToken({ policy: { "transit/encrypt/newer": ["update"] } });
    expect((await post("transit/encrypt/newer", poor, { plaintext: "AAAA", context: "AAAA" })).status).toBe(403);
  });
});
