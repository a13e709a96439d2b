/** The key provider contract on local keyrings in real files. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { openKeyProvider } from "../../../src/envelope/open-key-provider.js";
import { providerContract } from "./contract.js";

providerContract("a local keyring", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tacenda-keyring-"));
  const open = (name: string) => openKeyProvider(`local:${join(folder, name)}`, { environment: {}, create: true });
  return {
    open: () => open("keyring.json"),
    openOther: () => open("other.json"),
    remove: () => rm(folder, { recursive: true }),
  };
});
