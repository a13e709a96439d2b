/** The SDK through real proxies, as docs/deploying.md configures them: nothing is changed on the way, and no hash is written down. */

import { once } from "node:events";
import { request } from "node:https";

import { Tacenda, TacendaError } from "@tacenda/sdk";
import type { AccessEvent } from "@tacenda/server";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { openWorld, type World } from "../world.ts";
import { PROXIES, startProxy, type ProxyName } from "./proxy.ts";

/** Where nobody listens. */
const NOWHERE = "http://127.0.0.1:9";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

/** A store through the proxy, and the paths that were asked for. */
function storeAt(url: string) {
  const paths: string[] = [];
  const recording: typeof fetch = (input, init) => {
    paths.push(new URL(input instanceof Request ? input.url : input).pathname);
    return fetch(input, init);
  };
  const client = new Tacenda({ url, token: world.token, fetch: recording, maxAttempts: 1 });
  const hashes = () => [...new Set(paths.flatMap((path) => /\/records\/([\w-]{43})/.exec(path)?.[1] ?? []))];
  return { store: client.getStore("user-tokens", { secret: world.secret }), hashes };
}

describe.each(Object.keys(PROXIES) as ProxyName[])("%s", (name) => {
  const { program } = PROXIES[name];
  const isHere = program !== null;

  test("is to be had from Debian's packages", (context) => {
    if (!isHere && process.env.CI === undefined) context.skip("it could not be fetched: see above");
    expect(isHere).toBe(true);
  });

  test.runIf(isHere)("carries values up to the largest, versions, conditions and batches", async () => {
    const { url } = await startProxy(name, world.url);
    const { store, hashes } = storeAt(url);
    await store.verify();
    const large = "0123456789abcdef".repeat(65_536);
    expect(await store.setValue(`${name}/large`, large)).toEqual({ version: 1 });
    expect(await store.getValue(`${name}/large`)).toBe(large);
    expect(await store.setValue(`${name}/large`, "small", { ifVersion: 1 })).toEqual({ version: 2 });
    const conflict: unknown = await store
      .setValue(`${name}/large`, "x", { ifVersion: 1 })
      .catch((error: unknown) => error);
    expect(TacendaError.is(conflict, "conflict") && conflict.currentVersion).toBe(2);
    const entries = Object.fromEntries(
      Array.from({ length: 7 }, (_, index) => [`${name}/${index}`, large.slice(0, 800_000)]),
    );
    await store.setValues(entries);
    expect([...(await store.getValues(Object.keys(entries))).values()]).toEqual(Object.values(entries));
    await store.deleteValue(`${name}/large`);
    expect(await store.getValue(`${name}/large`)).toBeNull();
    expect(hashes().length).toBeGreaterThan(0);
  });

  test.runIf(isHere)("passes entity tags, paths and answers as they are", async () => {
    const { url } = await startProxy(name, world.url);
    const { store, hashes } = storeAt(url);
    await store.setValue(`${name}/raw`, "value");
    const path = `/v1/projects/default/stores/user-tokens/records/${hashes()[0] ?? ""}`;
    const headers = { authorization: `Bearer ${world.token}`, "accept-encoding": "gzip, br" };
    const through = await fetch(url + path, { headers });
    expect(through.headers.get("etag")).toBe('"1"');
    expect(through.headers.get("content-encoding")).toBeNull();
    expect(through.headers.get("tacenda-request-id")).not.toBeNull();
    const unchanged = await fetch(url + path, { headers: { ...headers, "if-none-match": '"1"' } });
    expect([unchanged.status, unchanged.headers.get("etag")]).toEqual([304, '"1"']);
    // Decoded or normalized, each of these would be the record's path.
    for (const other of [
      path.replace("/records/", "/records%2F"),
      path.replace("stores", "st%6Fres"),
      path.replace("/stores", "//stores"),
    ]) {
      const [direct, proxied] = [await fetch(world.url + other, { headers }), await fetch(url + other, { headers })];
      expect([proxied.status, await codeOf(proxied)]).toEqual([direct.status, await codeOf(direct)]);
      expect(proxied.status).toBe(404);
    }
  });

  test.runIf(isHere)(
    "writes no hash down, not even when the server is away, and the SDK says so in a typed error",
    async () => {
      const proxy = await startProxy(name, world.url);
      const { store, hashes } = storeAt(proxy.url);
      await store.setValue(`${name}/quiet`, "value");
      await fetch(`${proxy.url}/v1/projects/default/stores/user-tokens/records/${hashes()[0] ?? ""}%2F`);
      const cut = await startProxy(name, NOWHERE);
      const away = storeAt(cut.url);
      const error: unknown = await away.store.getValue(`${name}/quiet`).catch((thrown: unknown) => thrown);
      expect(TacendaError.is(error, "server_unreachable") && error.retryable).toBe(true);
      expect(hashes()).toHaveLength(1);
      const [hash = "none"] = hashes();
      await fetch(`${cut.url}/v1/projects/default/stores/user-tokens/records/${hash}`);
      for (const text of [proxy.written(), cut.written()]) {
        expect(text).not.toContain(hash);
        expect(text).not.toContain("/records/");
      }
    },
  );

  test.runIf(isHere && process.platform === "linux")(
    "tells the server its client's address, whatever the client says of itself",
    async () => {
      const addresses = async (trustedProxies: string[]) => {
        const events: AccessEvent[] = [];
        await using asked = await openWorld({ trustedProxies, onAccess: (event) => void events.push(event) });
        const { url } = await startProxy(name, asked.url);
        events.length = 0;
        // Another address of this machine than the proxy's; Linux has all of 127.0.0.0/8.
        const headers = { "x-forwarded-for": "198.51.100.7" };
        const { hostname, port } = new URL(url);
        const sent = request({ hostname, port, path: "/livez", headers, localAddress: "127.0.0.2", family: 4 }).end();
        const [answer] = (await once(sent, "response")) as [NodeJS.ReadableStream];
        answer.resume();
        await once(answer, "end");
        return events.map(({ address }) => address);
      };
      expect(await addresses(["127.0.0.1"])).toEqual(["127.0.0.2"]);
      expect(await addresses([])).toEqual(["127.0.0.1"]);
    },
  );

  test.runIf(isHere)("would write it down without what the guide says of logs", async () => {
    const talkative = (text: string) =>
      text
        .replace("access_log off;", "")
        .replace(" emerg;", " error;")
        .replace(/\tlog \{\n.*?\n\t\}\n/s, "");
    const cut = await startProxy(name, NOWHERE, talkative);
    await fetch(`${cut.url}/v1/projects/default/stores/user-tokens/records/${"h".repeat(43)}`);
    await expect.poll(() => cut.written()).toContain("h".repeat(43));
  });
});

async function codeOf(answer: Response): Promise<string> {
  return ((await answer.json()) as { error: { code: string } }).error.code;
}
