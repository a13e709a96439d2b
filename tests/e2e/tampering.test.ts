/** A server, or what lies before it, that alters answers: nothing altered is ever returned (T1, T5–T7, T11, T12). */

import { RollbackError, TacendaError } from "@tacenda/sdk";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { type World, altered, meddlingFetch, openWorld } from "../world.js";

let world: World;
beforeAll(async () => {
  world = await openWorld();
  await world.store().setValue("k", "the value");
});
afterAll(() => world[Symbol.asyncDispose]());

/** The outcome of reading "k" while one GET after another is altered; derived once, for the cost's sake. */
function meddledStore() {
  const meddle: { change: (response: Response) => Promise<Response> } = {
    change: (response) => Promise.resolve(response),
  };
  let requests = 0;
  const fetch = meddlingFetch(async (request, pass) => {
    requests++;
    return await meddle.change(await pass(request));
  });
  const store = world.store({ fetch });
  return {
    read: async (change: (response: Response) => Promise<Response>) => {
      meddle.change = change;
      requests = 0;
      await store.forgetMark("k");
      const outcome = await store.getValue("k").catch((error: unknown) => error);
      return { outcome, requests };
    },
  };
}

describe("every byte of a record", () => {
  test("changed, gives one and the same error, after one request", async () => {
    const { read } = meddledStore();
    expect((await read((response) => Promise.resolve(response))).outcome).toBe("the value");
    const length = 347;
    const seen = new Map<string, number>();
    for (let index = 0; index < length; index++) {
      for (const mask of [0x01, 0x80]) {
        const { outcome, requests } = await read((response) =>
          altered(response, { body: (bytes) => bytes.with(index, (bytes[index] ?? 0) ^ mask) }),
        );
        expect(requests).toBe(1);
        if (!TacendaError.is(outcome)) return expect.fail(`byte ${index} may be changed unseen`);
        const expected = index < 2 ? "unsupported_format" : "record_open";
        expect(outcome.code).toBe(expected);
        seen.set(outcome.message, (seen.get(outcome.message) ?? 0) + 1);
      }
    }
    // One message for the two format bytes, one for all the others: no oracle tells which part was wrong.
    expect([...seen.values()]).toEqual([4, (length - 2) * 2]);
  });

  test("missing or added, gives an error", async () => {
    const { read } = meddledStore();
    for (const body of [
      () => new Uint8Array(0),
      (bytes: Uint8Array<ArrayBuffer>) => bytes.slice(0, 74),
      (bytes: Uint8Array<ArrayBuffer>) => bytes.slice(0, 75),
      (bytes: Uint8Array<ArrayBuffer>) => bytes.slice(0, -1),
      (bytes: Uint8Array<ArrayBuffer>) => new Uint8Array([...bytes, 0]),
      () => new TextEncoder().encode("the value"),
    ]) {
      expect(TacendaError.is((await read((response) => altered(response, { body }))).outcome)).toBe(true);
    }
  });
});

describe("every header the client trusts", () => {
  test.each([
    '"2"',
    '"0"',
    '"9007199254740991"',
    '"9007199254740992"',
    "1",
    '"01"',
    'W/"1"',
    '"1", "2"',
    '"-1"',
    '""',
    null,
  ])("ETag %s is an error", async (etag) => {
    const { read } = meddledStore();
    const { outcome } = await read((response) => altered(response, { headers: { etag } }));
    expect(["record_open", "protocol"]).toContain(TacendaError.is(outcome) && outcome.code);
  });

  test("what the server merely claims changes nothing but the claim", async () => {
    for (const [headers, claimed] of [
      [{ "tacenda-created-at": "1" }, { createdAt: new Date(1), protected: false }],
      [{ "tacenda-created-at": "9999999999999999" }, { createdAt: null }],
      [{ "tacenda-created-at": "soon" }, { createdAt: null }],
      [{ "tacenda-attributes": "protected" }, { protected: true }],
      [{ "tacenda-attributes": "__proto__" }, { protected: false }],
    ] as const) {
      const fetch = meddlingFetch(async (request, pass) => await altered(await pass(request), { headers }));
      expect(await world.store({ fetch }).getEntry("k")).toMatchObject({ value: "the value", version: 1, claimed });
    }
  });

  test("headers that would weaken the client do not exist for it (T1)", async () => {
    const { read } = meddledStore();
    const headers = {
      "tacenda-iterations": "1",
      "tacenda-suite": "0",
      "tacenda-format": "0",
      "content-type": "text/plain",
    };
    expect((await read((response) => altered(response, { headers }))).outcome).toBe("the value");
  });
});

describe("records presented elsewhere", () => {
  test("as another key's, store's or version's, do not open", async () => {
    const other = world.client().getStore("other", { secret: world.secret });
    await world.store().setValue("k2", "of k2");
    await other.setValue("k", "of the other store");
    await world.store().setValue("versions", "first");
    await world.store().setValue("versions", "second");
    const bodies = new Map<string, Response>();
    const record = meddlingFetch(async (request, pass) => {
      const response = await pass(request);
      bodies.set("last", response.clone());
      return response;
    });
    const take = async (read: Promise<unknown>) => {
      await read;
      return bodies.get("last")?.clone() ?? expect.fail("no answer was caught");
    };
    const ofKey2 = await take(world.store({ fetch: record }).getValue("k2"));
    const ofOther = await take(
      world.client({ fetch: record }).getStore("other", { secret: world.secret }).getValue("k"),
    );
    const ofSecond = await take(world.store({ fetch: record }).getValue("versions"));

    for (const [answer, key] of [
      [ofKey2, "k"],
      [ofOther, "k"],
      [await altered(ofSecond.clone(), { headers: { etag: '"1"' } }), "versions"],
      [await altered(ofSecond.clone(), { headers: { etag: '"3"' } }), "versions"],
    ] as const) {
      const fetch = meddlingFetch(() => answer.clone());
      await expect(world.store({ fetch }).getValue(key)).rejects.toMatchObject({ code: "record_open" });
    }
    expect(await world.store({ fetch: meddlingFetch(() => ofSecond.clone()) }).getValue("versions")).toBe("second");
  });

  test("under another secret, though the hash is asked for, do not open", async () => {
    const answers: Response[] = [];
    const fetch = meddlingFetch(async (request, pass) => {
      const response = await pass(request);
      answers.push(response.clone());
      return response;
    });
    await world.store({ fetch }).getValue("k");
    const replay = meddlingFetch(() => answers[0]?.clone() ?? Response.error());
    const wrong = world.store({ fetch: replay, secret: "another-secret-0123456789abcdefghij" });
    await expect(wrong.getValue("k")).rejects.toMatchObject({ code: "record_open" });
  });
});

describe("a server that goes back, under a client that remembers", () => {
  test("an older version, absence, or another record of the same version is a RollbackError", async () => {
    let answer: ((pass: () => Promise<Response>) => Promise<Response>) | undefined;
    const fetch = meddlingFetch(async (request, pass) =>
      answer ? await answer(() => pass(request)) : await pass(request),
    );
    const store = world.store({ fetch });
    await store.setValue("marked", "1");
    let first: Response | undefined;
    answer = async (pass) => (first = await pass()).clone();
    await store.getValue("marked");
    answer = undefined;
    await store.setValue("marked", "2");

    answer = () => Promise.resolve(first?.clone() ?? Response.error());
    await expect(store.getValue("marked")).rejects.toThrow(RollbackError);
    const requestId = crypto.randomUUID();
    const absent = { error: { code: "record_not_found", message: "", requestId } };
    answer = () => Promise.resolve(Response.json(absent, { status: 404 }));
    await expect(store.getValue("marked")).rejects.toThrow(RollbackError);
    await expect(store.createValue("marked", "x")).rejects.toThrow(RollbackError);
    const conflict = { error: { code: "version_conflict", message: "", requestId, current: null } };
    answer = () => Promise.resolve(Response.json(conflict, { status: 412 }));
    await expect(store.setValue("marked", "x")).rejects.toThrow(RollbackError);
    answer = undefined;
    expect(await store.getValue("marked")).toBe("2");
  });

  test("a version jump in a 412 does not verify, and nothing is sealed for it (T28)", async () => {
    const store = world.store();
    await store.setValue("jump", "1");
    let writes = 0;
    const fetch = meddlingFetch(async (request, pass) => {
      const response = await pass(request);
      if (request.method !== "PUT") return response;
      writes++;
      const body = (await response.json()) as { error: { current: { version: number } } };
      body.error.current.version = Number.MAX_SAFE_INTEGER - 1;
      return Response.json(body, { status: response.status });
    });
    await expect(world.store({ fetch }).setValue("jump", "2")).rejects.toMatchObject({ code: "record_open" });
    expect(writes).toBe(1);
  });

  test("a refusal that names the very version it was asked to write over is not believed, nor tried again", async () => {
    const store = world.store();
    await store.setValue("refused", "1");
    let conflict: Response | undefined;
    let writes = 0;
    const fetch = meddlingFetch(async (request, pass) => {
      if (request.method !== "PUT") return await pass(request);
      writes++;
      conflict ??= await pass(request);
      return conflict.clone();
    });
    await expect(world.store({ fetch }).setValue("refused", "2")).rejects.toMatchObject({ code: "protocol" });
    expect(writes).toBe(2);
  });

  test("two writes acknowledged as one version are noticed (T25)", async () => {
    const fetch = meddlingFetch(() => new Response(null, { status: 201, headers: { etag: '"1"' } }));
    const store = world.store({ fetch });
    const outcomes = await Promise.allSettled([store.setValue("fork", "one"), store.setValue("fork", "two")]);
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    const refused = outcomes.find(({ status }) => status === "rejected") as PromiseRejectedResult;
    expect(refused.reason).toBeInstanceOf(RollbackError);
  });

  test("a call ends with its timeout, however many rounds the server would draw it into", async () => {
    let version = 1;
    const fetch = meddlingFetch(async (request) => {
      // Refuses each write, and then names it, which the client itself has sealed, as current.
      const sent = new Uint8Array(await request.arrayBuffer());
      const head = Buffer.from(sent.subarray(0, 75)).toString("base64url");
      const error = {
        code: "version_conflict",
        message: "",
        requestId: crypto.randomUUID(),
        current: { version, head },
      };
      version++;
      await new Promise((resolve) => setTimeout(resolve, 100));
      return Response.json({ error }, { status: 412 });
    });
    const started = performance.now();
    const call = world.store({ fetch }).setValue("rounds", "v", { timeout: 600 });
    await expect(call).rejects.toSatisfy((error) => TacendaError.is(error));
    expect(performance.now() - started).toBeLessThan(2_000);
    expect(version).toBeGreaterThan(3);
  });

  test("an acknowledgement of another version is not believed", async () => {
    const fetch = meddlingFetch(
      async (request, pass) => await altered(await pass(request), { headers: { etag: '"7"' } }),
    );
    await expect(world.store({ fetch }).setValue("ack", "v")).rejects.toMatchObject({ code: "protocol" });
  });

  test("a forged 410 or 404 for what lives is not believed, or is told apart", async () => {
    const store = world.store();
    const head = "A".repeat(100);
    for (const current of [
      undefined,
      null,
      {},
      { version: 1, head },
      { version: 1, head: "A" },
      { version: "1", head },
    ]) {
      const body = { error: { code: "record_expired", message: "", requestId: crypto.randomUUID(), current } };
      const fetch = meddlingFetch(() => Response.json(body, { status: 410 }));
      const error = await world
        .store({ fetch })
        .getValue("k")
        .catch((error: unknown) => error);
      expect(["record_open", "unsupported_format", "protocol"]).toContain(TacendaError.is(error) && error.code);
    }
    expect(await store.getValue("k")).toBe("the value");
  });
});
