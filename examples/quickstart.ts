/** Sets and reads values through both layers, then shows what the server's database really holds for them. */

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { Tacenda, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import Database from "better-sqlite3";

import { startLocalServer } from "./local-server.ts";

await using server = await startLocalServer();
const { url, rootToken, dataDir } = server;
console.log(`A server runs at ${url}, with an embedded database in ${dataDir}\n`);

// Once, by an administrator: a store, and a token that may use it.
const admin = new TacendaAdmin({ url, token: rootToken });
await admin.stores.create("user-tokens");
const { token } = await admin.tokens.create("backend", [{ stores: ["user-tokens"], permissions: ["read", "write"] }]);

// Once, by whoever owns the values: a secret. It never leaves this process.
const secret = generateSecret();

// In every backend.
const tacenda = new Tacenda({ url, token });
const store = tacenda.getStore("user-tokens", { secret });
await store.verify();
await store.setValue("github:42", "ghp_an-access-token");
await store.setValue("slack:42", "xoxb-another-one", { metadata: { scope: "chat:write" } });
await store.setValue("github:42", "ghp_a-newer-access-token");
console.log('setValue("github:42"), setValue("slack:42"), setValue("github:42") again');
console.log('getValue("github:42")  →', await store.getValue("github:42"));
console.log('getValue("slack:42")   →', await store.getValue("slack:42"));
console.log('getValue("github:43")  →', await store.getValue("github:43"));

// What a thief of the database finds.
const database = new Database(join(dataDir, "tacenda.db"), { readonly: true });
interface Row {
  record_id: Buffer;
  version: number;
  body: Buffer;
}
const rows = database
  .prepare<[], Row>("select record_id, version, body from record_versions order by record_id, version")
  .all();
console.log("\nWhat the database holds (record_versions):");
console.table(
  rows.map(({ record_id, version, body }) => ({
    "record id (blinded)": `${record_id.toString("hex").slice(0, 24)}…`,
    version,
    bytes: body.length,
    "body (encrypted twice)": `${body.toString("hex").slice(0, 32)}…`,
  })),
);
database.close();

const files = readdirSync(dataDir).filter((name) => name.startsWith("tacenda.db"));
for (const needle of ["github:42", "ghp_", "slack", "xoxb", "chat:write", secret, token]) {
  const found = files.some((name) => readFileSync(join(dataDir, name)).includes(needle));
  if (found) throw new Error("The database holds what it must not hold.");
}
console.log(`Searched ${files.join(", ")} for keys, values, metadata, secret and token: none of them is there.`);
