/** How soon a replaced root token is noticed, and what that costs others; spec/http.md § Root token. */

import { expect, test } from "vitest";

import { Authenticator } from "../../src/auth/authenticator.js";
import { ROOT } from "../../src/auth/principal.js";
import { RootDigest } from "../../src/auth/root-digest.js";
import { digestToken, newToken } from "../../src/auth/tokens.js";

const DAY = 86_400_000;

/** An authenticator beside a database, in which `state.root` is the root token, and how often that was asked for. */
function setUp() {
  const state = { root: newToken() as ReturnType<typeof newToken> | null, asked: 0, changes: 0, clock: 0 };
  const tenant = newToken();
  const row = {
    id: tenant.id,
    project: "default",
    name: "test",
    digest: tenant.digest,
    grants: [],
    createdAt: 0,
    expiresAt: null,
    mintedBy: null,
    lastUsedAt: null,
  };
  const load = () => {
    state.asked++;
    return Promise.resolve(state.root?.digest ?? null);
  };
  const digest = new RootDigest(
    load,
    () => state.changes++,
    () => state.clock,
  );
  const findToken = (id: string) => Promise.resolve(id === tenant.id ? row : null);
  const authenticator = new Authenticator({ findToken }, digest, Date.now);
  const authenticate = async (text = "") => (await authenticator.authenticate(`Bearer ${text}`))?.type ?? null;
  return { state, tenant, authenticate };
}

test("a root token is known from the first request on, and asked for once a second at most", async () => {
  const { state, authenticate } = setUp();
  for (const [clock, asked] of [
    [0, 1],
    [999, 1],
    [1_000, 2],
    [1_999, 2],
    [DAY, 3],
  ] as const) {
    state.clock = clock;
    await Promise.all([1, 2, 3].map(async () => expect(await authenticate(state.root?.text)).toBe("root")));
    expect([clock, state.asked]).toEqual([clock, asked]);
  }
  expect(state.changes).toBe(0);
});

test("one that was replaced is refused after a second at most, and the new one is known by then", async () => {
  const { state, authenticate } = setUp();
  const old = state.root?.text;
  expect(await authenticate(old)).toBe("root");
  state.root = newToken();
  state.clock = 1_000;
  expect(await authenticate(old)).toBeNull();
  expect(await authenticate(state.root.text)).toBe("root");
  state.clock = 2_000;
  expect(await authenticate(old)).toBeNull();
  state.root = newToken();
  state.clock = 3_000;
  // Nobody has used the old one in between.
  expect(await authenticate(state.root.text)).toBe("root");
  expect(state.changes).toBe(2);
});

test("tenants' tokens ask nothing, and unknown ones no more than once a second", async () => {
  const { state, tenant, authenticate } = setUp();
  for (let clock = 0; clock < 10_000; clock += 100) {
    state.clock = clock;
    expect(await authenticate(tenant.text)).toBe("token");
  }
  expect(state.asked).toBe(0);
  for (let clock = 10_000; clock < 12_000; clock += 100) {
    state.clock = clock;
    expect(await authenticate(newToken().text)).toBeNull();
    expect(await authenticate("no token's form")).toBeNull();
  }
  expect(state.asked).toBe(2);
});

test("without a root token in the database nobody is root", async () => {
  const { state, authenticate } = setUp();
  state.root = null;
  expect(await authenticate(newToken().text)).toBeNull();
  expect(new RootDigest(() => Promise.resolve(null)).mayBe(new Uint8Array(32).fill(1))).toBe(false);
});

test("one that is given for good is never asked for, and may be any string", async () => {
  const text = "r".repeat(32);
  const digest = new RootDigest(digestToken(text));
  const authenticator = new Authenticator({ findToken: () => Promise.resolve(null) }, digest, Date.now);
  expect(await authenticator.authenticate(`Bearer ${text}`)).toBe(ROOT);
});

test("a database that fails is no reason to let anybody in", async () => {
  let isUp = true;
  let clock = 0;
  const token = newToken();
  const load = () => (isUp ? Promise.resolve(token.digest) : Promise.reject(new Error("away")));
  const digest = new RootDigest(load, undefined, () => clock);
  expect(await digest.is(token.digest)).toBe(true);
  isUp = false;
  clock = 1_000;
  await expect(digest.is(token.digest)).rejects.toThrow("away");
  isUp = true;
  expect(await digest.is(token.digest)).toBe(true);
});
