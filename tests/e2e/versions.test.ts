/** Servers and SDKs of other versions: what each learns of the other; spec/http.md § Versions. */

import { HEADERS, PROTOCOL_VERSION, formatProtocolVersion } from "@tacenda/protocol";
import { TacendaError } from "@tacenda/sdk";
import { afterAll, beforeAll, expect, test } from "vitest";

import { versionError } from "../../packages/sdk/src/http/version-error.ts";
import { openWorld, type World } from "../world.ts";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

/** The real server, but for what a later one would answer to some requests. */
function laterServer(version: string, status: number, code: string): typeof fetch {
  return async (input, init) => {
    const request = new Request(input, init);
    if (request.method !== "PUT" || !request.url.includes("/records/")) return await fetch(request);
    const requestId = crypto.randomUUID();
    return Response.json(
      { error: { code, message: "of later", requestId } },
      { status, headers: { [HEADERS.protocol]: version, [HEADERS.requestId]: requestId } },
    );
  };
}

async function errorOfWrite(fetch: typeof globalThis.fetch): Promise<TacendaError> {
  const store = world.client({ fetch, maxAttempts: 1 }).getStore("user-tokens", { secret: world.secret });
  const error: unknown = await store.setValue("k", "v").catch((thrown: unknown) => thrown);
  if (!TacendaError.is(error)) throw new Error("It is no error of the SDK.");
  return error;
}

test("every error names the version of the interface, and nothing else does", async () => {
  const ours = formatProtocolVersion(PROTOCOL_VERSION);
  const headers = { authorization: `Bearer ${world.token}` };
  for (const path of ["/v1/nowhere", "/v2/token", "/v1/projects/default/stores/missing/records/x", "/%"]) {
    const answer = await fetch(world.url + path, { headers });
    expect([answer.ok, answer.headers.get(HEADERS.protocol)]).toEqual([false, ours]);
  }
  const refused = await fetch(`${world.url}/v1/token`);
  expect([refused.status, refused.headers.get(HEADERS.protocol)]).toEqual([401, ours]);
  const granted = await fetch(`${world.url}/v1/token`, { headers });
  expect([granted.status, granted.headers.get(HEADERS.protocol)]).toEqual([200, null]);
});

test("an error that only a newer server knows says which side to update", async () => {
  for (const [version, status, code] of [
    ["1.7", 409, "a_code_of_later"],
    ["2.0", 404, "not_found"],
  ] as const) {
    const error = await errorOfWrite(laterServer(version, status, code));
    expect([error.code, error.retryable]).toEqual(["incompatible_version", false]);
    expect(error.message).toContain(version);
    expect(error.message).toContain("update @tacenda/sdk");
    expect(error.message).not.toContain(code);
  }
});

test("what is known of a newer server's answers counts as ever", async () => {
  const [overloaded, denied, unknown] = [
    await errorOfWrite(laterServer("1.7", 503, "a_code_of_later")),
    await errorOfWrite(laterServer("1.7", 403, "permission_denied")),
    // Of this version, or without a version, nobody knows such a code.
    await errorOfWrite(laterServer(formatProtocolVersion(PROTOCOL_VERSION), 409, "a_code_of_later")),
  ];
  expect([overloaded.code, denied.code, unknown.code]).toEqual(["overloaded", "permission_denied", "protocol"]);
  expect((await errorOfWrite(laterServer("<token>", 409, "a_code_of_later"))).code).toBe("protocol");
});

test("what an older server does not understand says so, and what it refuses does not", () => {
  const answer = { status: 404, headers: new Headers({ [HEADERS.protocol]: "1.2" }) };
  const later = { major: 1, minor: 3 };
  const error = versionError(answer, "not_found", later);
  expect(error?.message).toContain("protocol 1.2, this SDK 1.3");
  expect(error?.message).toContain("update the server");
  expect(versionError(answer, "invalid_request", { major: 2, minor: 0 })?.code).toBe("incompatible_version");
  expect(versionError(answer, "record_not_found", later)).toBeNull();
  expect(versionError(answer, "not_found", { major: 1, minor: 2 })).toBeNull();
});
