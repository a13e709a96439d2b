/** A Hono backend that keeps a user's OAuth token after the consent screen and uses it in later requests. */

import { serve } from "@hono/node-server";
import { Tacenda, TacendaError, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { Hono } from "hono";

import { startLocalServer } from "./local-server.ts";

interface GitHubToken {
  accessToken: string;
  scopes: string[];
}

/** The backend. Your session middleware says who `userId` is. */
function createBackend(tokens: ReturnType<Tacenda["getStore"]>): Hono {
  const app = new Hono();

  app.post("/users/:userId/github", async (context) => {
    const token = await context.req.json<GitHubToken>();
    const { version } = await tokens.setValue(`github:${context.req.param("userId")}`, JSON.stringify(token));
    return context.json({ connected: true, version });
  });

  app.get("/users/:userId/repositories", async (context) => {
    const value = await tokens.getValue(`github:${context.req.param("userId")}`);
    if (value === null) return context.json({ error: "Connect GitHub first." }, 409);
    const { scopes } = JSON.parse(value) as GitHubToken;
    // Here one would call GitHub with the access token. It goes nowhere else: not into a log, not into an answer.
    return context.json({ allowed: scopes.includes("repo") });
  });

  // A failure is never "not connected": tell the caller whether to try again.
  app.onError((error, context) => {
    const retryable = TacendaError.is(error) && error.retryable;
    return context.json({ error: retryable ? "Try again." : "Internal error." }, retryable ? 503 : 500);
  });
  return app;
}

await using tacendaServer = await startLocalServer();
const { url } = tacendaServer;
const admin = new TacendaAdmin({ url, token: tacendaServer.rootToken });
await admin.stores.create("user-tokens");
const { token } = await admin.tokens.create("backend", [{ stores: ["user-tokens"], permissions: ["read", "write"] }]);

const store = new Tacenda({ url, token }).getStore("user-tokens", { secret: generateSecret() });
await store.verify();
const backend = await new Promise<{ url: string; close(): void }>((resolve) => {
  const server = serve({ fetch: createBackend(store).fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) =>
    resolve({ url: `http://127.0.0.1:${port}`, close: () => server.close() }),
  );
});

async function show(method: string, path: string, body?: object): Promise<void> {
  const init = { method, ...(body && { body: JSON.stringify(body) }) };
  const response = await fetch(backend.url + path, init);
  console.log(`${method} ${path} → ${response.status} ${await response.text()}`);
}
await show("GET", "/users/42/repositories");
await show("POST", "/users/42/github", { accessToken: "ghp_example", scopes: ["repo"] });
await show("GET", "/users/42/repositories");
await show("GET", "/users/43/repositories");
backend.close();
