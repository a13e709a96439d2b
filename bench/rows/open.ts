/** Opening alone, without a client around it. It is not exported by the package, so this one function is run from its sources. */

import { registerHooks } from "node:module";

import { VALUE } from "../fixture.ts";

/** Sources name their neighbours by the names that they will have once built. */
registerHooks({
  resolve(specifier, context, next) {
    const inSources = context.parentURL?.includes("/packages/sdk/src/") === true && specifier.startsWith(".");
    return next(inSources ? specifier.replace(/\.js$/, ".ts") : specifier, context);
  },
});

/** Seals the value once, and gives a function that opens it. */
export async function prepareOpen(): Promise<() => void> {
  const { openRecord, sealRecord } = await import("../../packages/sdk/src/crypto/record.ts");
  const keys = {
    keyHash: crypto.getRandomValues(new Uint8Array(32)),
    valueKey: crypto.getRandomValues(new Uint8Array(32)),
  };
  const place = { project: "default", storeId: "bench", version: 1 };
  const value = new TextEncoder().encode(VALUE);
  const payload = { kind: 0, sealedAt: Date.now(), metadata: new Uint8Array(0), value } as const;
  const { record } = sealRecord(keys, place, { state: 0, expiresAt: 0 }, payload);
  return () => {
    if (typeof openRecord(keys, place, record) === "string") throw new Error("The benchmark's record does not open.");
  };
}
