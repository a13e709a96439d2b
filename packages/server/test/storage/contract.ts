/** The one suite that every database must pass. */

import { describe } from "vitest";

import { directoryContract } from "./directory-contract.js";
import { keysContract } from "./keys-contract.js";
import { maintenanceContract } from "./maintenance-contract.js";
import { quotasContract } from "./quotas-contract.js";
import { recordsContract } from "./records-contract.js";
import type { TestDatabase } from "./world.js";

/** Runs the contract on empty databases from `create`, one per test. */
export function storageContract(name: string, create: () => Promise<TestDatabase>): void {
  describe(`storage on ${name}`, () => {
    describe("records", () => recordsContract(create));
    describe("directory", () => directoryContract(create));
    describe("keys", () => keysContract(create));
    describe("maintenance", () => maintenanceContract(create));
    describe("quotas", () => quotasContract(create));
  });
}
