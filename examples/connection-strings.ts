/**
 * A SaaS whose tenants keep their database connection strings. Each tenant is a project with a token and a secret of its
 * own, so neither a stolen token nor a bug in one tenant's code reaches another's values.
 */

import { ConflictError, StoreNotFoundError, Tacenda, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";

import { startLocalServer } from "./local-server.ts";

await using server = await startLocalServer();
const { url } = server;
const admin = new TacendaAdmin({ url, token: server.rootToken });

/** What a tenant's process gets at deployment. */
async function onboard(tenant: string) {
  await admin.projects.create(tenant);
  await admin.stores.create("connections", { project: tenant });
  const grants = [{ stores: ["connections"], permissions: ["read" as const, "write" as const] }];
  const { token } = await admin.tokens.create("app", grants, { project: tenant });
  return { project: tenant, token, secret: generateSecret() };
}

function connectionsOf({ project, token, secret }: Awaited<ReturnType<typeof onboard>>) {
  return new Tacenda({ url, project, token }).getStore("connections", { secret });
}

const acme = await onboard("acme");
const globex = await onboard("globex");
const connections = connectionsOf(acme);

await connections.setValue("main", "postgres://acme:first-password@db.internal/acme");
await connectionsOf(globex).setValue("main", "postgres://globex:password@db.internal/globex");

// Rotating a password: write only over what was read, so that two rotations at once cannot undo each other.
const entry = await connections.getEntry("main");
if (entry?.state !== "live") throw new Error("The connection string is missing.");
await connections.setValue("main", "postgres://acme:second-password@db.internal/acme", { ifVersion: entry.version });
try {
  await connections.setValue("main", "postgres://acme:stale-password@db.internal/acme", { ifVersion: entry.version });
} catch (error) {
  if (!(error instanceof ConflictError)) throw error;
  console.log(`A rotation from stale data was refused: the key is at version ${error.currentVersion}.`);
}
const password = (value: string | null) => (value === null ? "none" : new URL(value).password);
console.log("acme's password:", password(await connections.getValue("main")));
console.log("globex's password:", password(await connectionsOf(globex).getValue("main")));

// Another tenant's token opens nothing here, whatever its owner knows.
try {
  await connectionsOf({ ...acme, token: globex.token }).getValue("main");
  throw new Error("A foreign token must not work.");
} catch (error) {
  if (!(error instanceof StoreNotFoundError)) throw error;
  console.log("globex's token in acme's project:", error.code);
}
