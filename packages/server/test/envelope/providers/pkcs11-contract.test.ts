/** The key provider contract on a token of SoftHSM. */

import { describe, expect, test } from "vitest";

import { providerContract } from "./contract.js";
import { SoftHsm, hasSoftHsm } from "./softhsm.js";

describe("hardware tokens", () => {
  test("this machine has SoftHSM and pkcs11js", (context) => {
    if (!hasSoftHsm && process.env.CI === undefined) context.skip("run node scripts/install-hsm.mjs to check");
    expect(hasSoftHsm, "scripts/install-hsm.mjs must have run where CI is set").toBe(true);
  });

  if (!hasSoftHsm) return;
  providerContract(
    "a token of SoftHSM",
    async () => {
      const hsm = await SoftHsm.create("main", "other");
      return {
        open: () => hsm.open("main"),
        openOther: () => hsm.open("other"),
        outage: { begin: () => hsm.takeAway(), end: () => hsm.bringBack() },
        remove: () => hsm.remove(),
      };
    },
    { outageLimit: 5_000 },
  );
});
