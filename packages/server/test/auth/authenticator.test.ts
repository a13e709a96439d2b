/** What the authenticator asks the database, and what it remembers; spec/http.md § Authentication. */

import { setTimeout as sleep } from "node:timers/promises";

import { describe, expect, onTestFinished, test, vi } from "vitest";

import { Authenticator } from "../../src/auth/authenticator.js";
import { ROOT } from "../../src/auth/principal.js";
import { RootDigest } from "../../src/auth/root-digest.js";
import { digestToken, hasValidChecksum, newToken } from "../../src/auth/tokens.js";
import type { KeptToken } from "../../src/storage/directory.js";

const NOW = 1_800_000_000_000;
const DAY = 86_400_000;

function setUp(rootToken = "r".repeat(32)) {
  const token = newToken();
  const row: KeptToken = {
    id: token.id,
    project: "default",
    name: "test",
    digest: token.digest,
    grants: [{ stores: ["*"], permissions: ["read"] }],
    createdAt: NOW,
    expiresAt: NOW + 10,
    mintedBy: null,
    lastUsedAt: null,
  };
  const rows = new Map([[row.id, row]]);
  const clock = { now: NOW };
  const asked: string[] = [];
  const findToken = (id: string) => {
    asked.push(id);
    return Promise.resolve(rows.get(id) ?? null);
  };
  const uses: [id: string, day: number][] = [];
  const directory = { findToken };
  const root = new RootDigest(digestToken(rootToken));
  const noteUse = (id: string, day: number) => void uses.push([id, day]);
  const authenticator = new Authenticator(directory, root, () => clock.now, noteUse);
  const authenticate = (text: string) => authenticator.authenticate(`Bearer ${text}`);
  return { token, rows, clock, asked, uses, directory, authenticator, authenticate };
}

/** The same with a database that answers when it is told to; what it answers was decided when it was asked. */
function setUpHeld() {
  const world = setUp();
  const held = new Map<string, () => void>();
  const findToken = async (id: string) => {
    world.asked.push(id);
    const row = world.rows.get(id) ?? null;
    await new Promise<void>((resolve) => held.set(id, resolve));
    return row;
  };
  const authenticator = new Authenticator(
    { findToken },
    new RootDigest(digestToken("r".repeat(32))),
    () => world.clock.now,
  );
  const authenticate = (text: string) => authenticator.authenticate(`Bearer ${text}`);
  const release = (id: string) => {
    held.get(id)?.();
    held.delete(id);
  };
  return { ...world, authenticator, authenticate, held, release };
}

test("knows a good token, and asks once", async () => {
  const { token, authenticate, asked } = setUp();
  const principal = await authenticate(token.text);
  expect(principal).toMatchObject({ type: "token", id: token.id, project: "default" });
  expect(await authenticate(token.text)).toBe(principal);
  expect(asked).toEqual([token.id]);
});

test("asks nothing for what cannot be a token", async () => {
  const { token, authenticate, authenticator, asked } = setUp();
  const typo = token.text.slice(0, 20) + (token.text[20] === "x" ? "y" : "x") + token.text.slice(21);
  expect(hasValidChecksum(token.text)).toBe(true);
  expect(hasValidChecksum(typo)).toBe(false);
  for (const text of [typo, "x", `${token.text}0`, token.text.slice(0, -1), "tct_"]) {
    expect(await authenticate(text)).toBeNull();
  }
  for (const header of [null, "", token.text, `Basic ${token.text}`]) {
    expect(await authenticator.authenticate(header)).toBeNull();
  }
  expect(asked).toEqual([]);
});

test("refuses another secret under a known id, cached or not", async () => {
  const { token, rows, authenticate } = setUp();
  const other = newToken();
  const row = rows.get(token.id);
  if (row === undefined) throw new Error("The row is gone.");
  rows.set(other.id, { ...row, id: other.id, digest: token.digest });
  expect(await authenticate(other.text)).toBeNull();
  expect(await authenticate(other.text)).toBeNull();
});

test("an unknown id is not found, nor does it match the digest it is compared with", async () => {
  const { authenticate } = setUp();
  expect(await authenticate(newToken().text)).toBeNull();
});

test("expiry holds for cached tokens as well", async () => {
  const { token, clock, authenticate, asked } = setUp();
  clock.now = NOW + 9;
  expect(await authenticate(token.text)).not.toBeNull();
  clock.now = NOW + 10;
  expect(await authenticate(token.text)).toBeNull();
  expect(asked).toHaveLength(1);
});

test("a deleted token stops working at once, even if it was being looked up", async () => {
  const { token, rows, authenticate, authenticator } = setUp();
  const underWay = authenticate(token.text);
  rows.clear();
  authenticator.forget();
  await underWay;
  expect(await authenticate(token.text)).toBeNull();
});

test("a token deleted elsewhere is refused a second after it was last looked for, however long that took", async () => {
  const { token, rows, authenticator, authenticate, directory } = setUp();
  expect(await authenticate(token.text)).not.toBeNull();
  const row = rows.get(token.id) ?? null;
  rows.clear();
  expect(await authenticate(token.text)).not.toBeNull();
  await sleep(1_010);
  expect(await authenticate(token.text)).toBeNull();

  await sleep(1_010);
  const slow = vi.spyOn(directory, "findToken").mockImplementationOnce(async () => {
    await sleep(1_010);
    return row;
  });
  expect(await authenticator.authenticate(`Bearer ${token.text}`)).not.toBeNull();
  expect(await authenticate(token.text)).toBeNull();
  expect(slow).toHaveBeenCalledTimes(2);
});

test("nor is a look-up waited for that began more than a second ago", async () => {
  const { token, rows, authenticate, directory } = setUp();
  const row = rows.get(token.id) ?? null;
  const late = Promise.withResolvers<KeptToken | null>();
  vi.spyOn(directory, "findToken").mockImplementationOnce(() => late.promise);
  const first = authenticate(token.text);
  rows.clear();
  await sleep(1_010);
  expect(await authenticate(token.text)).toBeNull();
  late.resolve(row);
  expect(await first).not.toBeNull();
  await sleep(1_010);
  expect(await authenticate(token.text)).toBeNull();
});

test("a use is noted once a day, as that day, and not at all when it is in the database or nobody got in", async () => {
  const { token, rows, clock, uses, authenticator, authenticate } = setUp();
  const row = rows.get(token.id);
  if (row === undefined) throw new Error("The row is gone.");
  row.expiresAt = NOW + 3 * DAY;
  const midnight = NOW - (NOW % DAY);
  for (const now of [NOW, NOW + 1, midnight + DAY - 1, midnight + DAY, midnight + DAY + 1, NOW]) {
    clock.now = now;
    await authenticate(token.text);
  }
  expect(uses).toEqual([
    [token.id, midnight],
    [token.id, midnight + DAY],
  ]);
  row.lastUsedAt = midnight + 2 * DAY;
  authenticator.forget();
  clock.now = midnight + 2 * DAY + 5;
  expect(await authenticate(token.text)).not.toBeNull();
  clock.now = row.expiresAt;
  expect(await authenticate(token.text)).toBeNull();
  expect(await authenticate(newToken().text)).toBeNull();
  expect(uses).toHaveLength(2);
});

test("the root token may have a token's form", async () => {
  const root = newToken().text;
  const { authenticate, asked } = setUp(root);
  expect(await authenticate(root)).toBe(ROOT);
  expect(asked).toEqual([]);
});

test("tokens are distinct and end in their checksum", () => {
  const texts = Array.from({ length: 100 }, () => newToken().text);
  expect(new Set(texts).size).toBe(100);
  for (const text of texts) expect(text).toMatch(/^tct_[0-9A-Za-z]{61}$/);
  expect(texts.every(hasValidChecksum)).toBe(true);
});

describe("tokens that nobody knows", () => {
  test("are looked up two at a time; those that were good before do not wait behind them", async () => {
    const { token, authenticator, authenticate, held, asked, release } = setUpHeld();
    const known = authenticate(token.text);
    await vi.waitFor(() => expect(held.size).toBe(1));
    release(token.id);
    expect(await known).toMatchObject({ id: token.id });
    authenticator.forget();
    asked.length = 0;

    const garbage = Array.from({ length: 50 }, () => newToken());
    const refused = garbage.map(({ text }) => authenticate(text));
    await vi.waitFor(() => expect(held.size).toBe(2));
    const again = authenticate(token.text);
    await vi.waitFor(() => expect(held.size).toBe(3));
    expect(asked).toEqual([garbage[0]?.id, garbage[1]?.id, token.id]);
    release(token.id);
    expect(await again).toMatchObject({ id: token.id });
    for (const { id } of garbage) {
      await vi.waitFor(() => expect(held.has(id)).toBe(true));
      release(id);
    }
    expect(await Promise.all(refused)).toEqual(garbage.map(() => null));
  });

  test("are told to come back when the database does not get through them", async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const { authenticate, release, held } = setUpHeld();
    const garbage = [newToken(), newToken(), newToken()];
    const [first, second, third] = garbage.map(({ text }) => authenticate(text));
    const told = expect(third).rejects.toMatchObject({ code: "overloaded" });
    await vi.advanceTimersByTimeAsync(2_000);
    await told;
    for (const id of [...held.keys()]) release(id);
    expect(await Promise.all([first, second])).toEqual([null, null]);
  });

  test("are asked for once in a second, and a token that is asked for by many at once is looked up once", async () => {
    const { token, authenticate, asked } = setUp();
    const garbage = newToken();
    for (let count = 0; count < 10; count++) expect(await authenticate(garbage.text)).toBeNull();
    expect(asked).toEqual([garbage.id]);
    const found = await Promise.all(Array.from({ length: 10 }, () => authenticate(token.text)));
    expect(found.every((principal) => principal?.id === token.id)).toBe(true);
    expect(asked).toEqual([garbage.id, token.id]);
  });
});

test("a look-up that began before a token was deleted answers nobody who came after", async () => {
  const { token, rows, authenticator, authenticate, held, release } = setUpHeld();
  const before = authenticate(token.text);
  await vi.waitFor(() => expect(held.size).toBe(1));
  const answerBefore = held.get(token.id);
  rows.clear();
  authenticator.forget();
  const after = authenticate(token.text);
  await vi.waitFor(() => expect(held.get(token.id)).not.toBe(answerBefore));
  answerBefore?.();
  expect(await before).not.toBeNull();
  release(token.id);
  expect(await after).toBeNull();
});
