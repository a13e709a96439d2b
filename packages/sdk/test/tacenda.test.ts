import { inspect } from "node:util";

import { expect, test } from "vitest";

import { TacendaAdmin } from "../src/admin.js";
import { Tacenda, generateSecret } from "../src/index.js";

const token = "tct_canary-token-0123456789-0123456789";
const options = { url: "http://127.0.0.1:9", token, maxAttempts: 1 };

test("clients and stores show neither token, secret nor keys (T24)", async () => {
  const secret = generateSecret();
  const tacenda = new Tacenda({ ...options, secret });
  const store = tacenda.getStore("user-tokens");
  await expect(store.getValue("canary-key")).rejects.toThrow();
  for (const held of [tacenda, store, new TacendaAdmin(options)]) {
    for (const shown of [inspect(held, { showHidden: true, depth: 20 }), JSON.stringify(held)]) {
      for (const canary of [token, secret, "canary-key"]) expect(shown).not.toContain(canary);
    }
  }
  expect(JSON.stringify({ tacenda, store })).toBe(
    '{"tacenda":{"project":"default"},"store":{"project":"default","store":"user-tokens"}}',
  );
});

test("a client can be disposed of", async () => {
  await using tacenda = new Tacenda(options);
  expect(tacenda.project).toBe("default");
});

test("call options that are no options of the exchange do not reach it", async () => {
  const seen: Request[] = [];
  const fetch = (input: RequestInfo | URL) => {
    seen.push(input as Request);
    return Promise.resolve(new Response(null, { status: 500 }));
  };
  const store = new Tacenda({ ...options, fetch }).getStore("s", { secret: generateSecret() });
  const hostile: object = {
    path: "elsewhere",
    method: "DELETE",
    headers: { a: "b" },
    body: "x",
    url: "http://127.0.0.1:1",
  };
  await expect(store.getValue("k", hostile)).rejects.toThrow();
  seen.splice(0, seen.length, ...seen.filter(({ url }) => !url.endsWith("/secret-check")));
  expect(seen).toHaveLength(1);
  expect(seen[0]?.method).toBe("GET");
  expect(seen[0]?.url).toMatch(/^http:\/\/127\.0\.0\.1:9\/v1\/projects\/default\/stores\/s\/records\/[\w-]{43}$/);
  expect(seen[0]?.headers.get("a")).toBeNull();
});
