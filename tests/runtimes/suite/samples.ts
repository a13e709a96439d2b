/** Values that one runtime writes and another reads: both ends must agree on every byte of spec/record.md. */

import { type Store, Tacenda } from "@tacenda/sdk";

import { equal, pattern } from "./check.ts";
import type { Plan } from "./plan.ts";
import { SHARED_STORE } from "./stores.ts";

const SAMPLES: Record<string, string | Uint8Array> = {
  text: "ghp_example",
  empty: "",
  "\ufeffクーリエ\0🔑": "\ufeff é e\u0301\0 🗝",
  bytes: pattern(256),
  "no bytes": new Uint8Array(0),
  long: "x".repeat(65_537),
};
const METADATA = { scope: ["repo", "ключ"], n: 1.5 };
const EXPIRES_AT = new Date(4_000_000_000_000);

/** The shared store, of a fresh client. */
export function sharedStore({ url, token, secret }: Pick<Plan, "url" | "token" | "secret">): Store {
  return new Tacenda({ url, token }).getStore(SHARED_STORE, { secret });
}

/** Writes every sample under keys of `author`'s. */
export async function writeSamples(store: Store, author: string): Promise<void> {
  for (const [name, value] of Object.entries(SAMPLES)) {
    const key = `${author}: ${name}`;
    await store.setValue(key, "overwritten");
    await store.setValue(key, value, { metadata: METADATA, expiresAt: EXPIRES_AT });
  }
  await store.setValue(`${author}: deleted`, "v");
  await store.deleteValue(`${author}: deleted`);
}

/** Reads what `author` wrote. @throws {Error} for whatever is not as it was written. */
export async function readSamples(store: Store, author: string): Promise<void> {
  for (const [name, value] of Object.entries(SAMPLES)) {
    const entry = await store.getEntry(`${author}: ${name}`);
    equal([entry?.state, entry?.version, entry?.value, entry?.expiresAt], ["live", 2, value, EXPIRES_AT]);
    if (entry?.state === "live") equal(entry.metadata, METADATA);
  }
  const deleted = await store.getEntry(`${author}: deleted`);
  equal([deleted?.state, deleted?.version, deleted?.value], ["deleted", 2, null]);
}
