/** Answers that are lost on the way: a write is never made twice and never sealed again in doubt; spec/http.md § Replay. */

import { OutcomeUnknownError, TacendaError } from "@tacenda/sdk";
import { afterAll, beforeAll, expect, test } from "vitest";

import { type World, meddlingFetch, openWorld } from "../world.js";

let world: World;
beforeAll(async () => void (world = await openWorld()));
afterAll(() => world[Symbol.asyncDispose]());

/** Carries the first PUT out and loses its answer; runs `meanwhile` before the next. */
function losingFetch(meanwhile: () => Promise<unknown> = () => Promise.resolve()) {
  const bodies: Uint8Array[] = [];
  const fetch = meddlingFetch(async (request, pass) => {
    if (request.method !== "PUT") return await pass(request);
    bodies.push(new Uint8Array(await request.clone().arrayBuffer()));
    const response = await pass(request);
    if (bodies.length > 1) return response;
    await meanwhile();
    throw new TypeError("fetch failed");
  });
  return { fetch, bodies };
}

test("a write whose answer was lost is sent again, the very same bytes, and is one version", async () => {
  const { fetch, bodies } = losingFetch();
  expect(await world.store({ fetch }).setValue("lost", "v")).toEqual({ version: 1 });
  expect(bodies).toHaveLength(2);
  expect(bodies[1]).toEqual(bodies[0]);
  expect(await world.store().getEntry("lost")).toMatchObject({ value: "v", version: 1 });
});

test("also when others have written since, as long as the version is kept", async () => {
  const { fetch } = losingFetch(() => world.store().setValue("kept", "theirs"));
  expect(await world.store({ fetch }).setValue("kept", "mine")).toEqual({ version: 1 });
  expect(await world.store().getEntry("kept")).toMatchObject({ value: "theirs", version: 2 });
});

test("when it is no longer kept, the outcome is unknown, and nothing is written again", async () => {
  await world.admin.stores.update("other", { maxVersions: 1 });
  const storeOf = (fetch?: typeof globalThis.fetch) =>
    world.client({ fetch }).getStore("other", { secret: world.secret });
  const { fetch, bodies } = losingFetch(() => storeOf().setValue("gone", "theirs"));
  const error = await storeOf(fetch)
    .setValue("gone", "mine")
    .catch((error: unknown) => error);
  expect(error).toBeInstanceOf(OutcomeUnknownError);
  // Others have written: to write again is for the caller to decide.
  expect((error as OutcomeUnknownError).retryable).toBe(false);
  expect(bodies).toHaveLength(2);
  expect(await storeOf().getEntry("gone")).toMatchObject({ value: "theirs", version: 2 });
});

test("a write of which the server does not know whether it happened is sent again as well", async () => {
  const bodies: Uint8Array[] = [];
  const fetch = meddlingFetch(async (request, pass) => {
    if (request.method !== "PUT") return await pass(request);
    bodies.push(new Uint8Array(await request.clone().arrayBuffer()));
    const response = await pass(request);
    if (bodies.length > 1) return response;
    return Response.json(
      { error: { code: "outcome_unknown", message: "", requestId: crypto.randomUUID() } },
      { status: 504 },
    );
  });
  expect(await world.store({ fetch }).setValue("unclear", "v")).toEqual({ version: 1 });
  expect(bodies).toHaveLength(2);
  expect(bodies[1]).toEqual(bodies[0]);
});

test.each([
  [401, "unauthorized", false],
  [403, "record_protected", false],
  [500, "internal", false],
  [503, "overloaded", true],
  [504, "outcome_unknown", true],
  [507, "storage_full", true],
])("when it happened, and the second is answered %d, the outcome is unknown too", async (status, code, retryable) => {
  let puts = 0;
  const fetch = meddlingFetch(async (request, pass) => {
    if (request.method !== "PUT") return await pass(request);
    if (++puts === 1) {
      await pass(request);
      throw new TypeError("fetch failed");
    }
    return Response.json({ error: { code, message: "", requestId: crypto.randomUUID() } }, { status });
  });
  const error = await world
    .store({ fetch, maxAttempts: 2 })
    .setValue(`twice ${status}`, "v")
    .catch((error: unknown) => error);
  expect(error).toBeInstanceOf(OutcomeUnknownError);
  expect((error as OutcomeUnknownError).retryable).toBe(retryable);
  if (code !== "outcome_unknown") expect(TacendaError.is((error as OutcomeUnknownError).cause)).toBe(true);
  expect(await world.store().getValue(`twice ${status}`)).toBe("v");
});

test.each([
  ["does not verify", { version: 1, head: "AQEA".padEnd(100, "A") }],
  ["has no head", { version: 1 }],
  ["is said not to exist", null],
])(
  "when it happened, and the second is refused for a version that %s, the outcome is unknown",
  async (name, current) => {
    const store = world.store();
    await store.setValue(name, "before");
    let puts = 0;
    const fetch = meddlingFetch(async (request, pass) => {
      if (request.method !== "PUT") return await pass(request);
      if (++puts === 1) {
        await pass(request);
        throw new TypeError("fetch failed");
      }
      const error = { code: "version_conflict", message: "", requestId: crypto.randomUUID(), current };
      return Response.json({ error }, { status: 412 });
    });
    const doubting = world.store({ fetch });
    expect(await doubting.getValue(name)).toBe("before");
    const error = await doubting.setValue(name, "v").catch((error: unknown) => error);
    expect(error).toBeInstanceOf(OutcomeUnknownError);
    expect(TacendaError.is((error as OutcomeUnknownError).cause)).toBe(true);
    expect(await world.store().getValue(name)).toBe("v");
  },
);

test("a refused write that was lost before the server saw it, is in doubt as well when others were faster", async () => {
  let lost = false;
  const fetch = meddlingFetch(async (request, pass) => {
    if (request.method !== "PUT" || lost) return await pass(request);
    lost = true;
    await world.store().setValue("faster", "theirs");
    throw new TypeError("fetch failed");
  });
  await expect(world.store({ fetch }).setValue("faster", "mine")).rejects.toThrow(OutcomeUnknownError);
  expect(await world.store().getValue("faster")).toBe("theirs");
});
