/** What consumers write: programs that use the installed packages, in plain JavaScript and in TypeScript. */

/** Sets a value and prints it. TACENDA_TOKEN is the root token, TACENDA_URL the server's. */
export const CLIENT = `
import { Tacenda, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";

const admin = new TacendaAdmin();
await admin.stores.create("consumers");
const { token } = await admin.tokens.create("consumer", [{ stores: ["consumers"], permissions: ["read", "write"] }]);
const store = new Tacenda({ token }).getStore("consumers", { secret: generateSecret() });
await store.setValue("key", "value of a consumer");
console.log(await store.getValue("key"));
`;

/** Embeds a server, asks whether it is ready, prints the status and ends. */
export const EMBEDDED = `
import { startServer } from "@tacenda/server";

const server = await startServer({ dataDir: "embedded-data", port: 0 });
const { status } = await fetch(server.url + "/readyz");
await server.close();
console.log(status);
`;

/** Neither may be \`any\`: each file has one line that must not compile. */
export const TYPED_CLIENT = `
import { type Entry, type Store, Tacenda, TacendaError, generateSecret } from "@tacenda/sdk";
import { type MintedToken, TacendaAdmin } from "@tacenda/sdk/admin";

export async function use(url: string, rootToken: string): Promise<string | null> {
  const grants: MintedToken["grants"] = [{ stores: ["*"], permissions: ["read", "write"] }];
  const { token }: MintedToken = await new TacendaAdmin({ url, token: rootToken }).tokens.create("consumer", grants);
  const store: Store = new Tacenda({ url, token }).getStore("s", { secret: generateSecret() });
  const { version }: { version: number } = await store.setValue("key", "value", { ifVersion: 0 });
  const entry: Entry | null = await store.getEntry("key " + version);
  if (entry?.state === "live") return entry.sealedAt.toISOString();
  return await store.getValue("key").catch((error: unknown) => {
    if (TacendaError.is(error, "conflict")) return error.currentVersion.toFixed();
    throw error;
  });
}

// @ts-expect-error
export const refused = (store: Store) => store.setValue("key", 42);
`;

export const TYPED_EMBEDDED = `
import { type RunningServer, type ServerOptions, startServer } from "@tacenda/server";

const options: ServerOptions = { dataDir: "data", port: 0 };

export async function use(): Promise<string> {
  const server: RunningServer = await startServer(options);
  await server.close();
  return server.url;
}

// @ts-expect-error
export const refused: ServerOptions = { dataDir: "data", port: "0" };
`;
