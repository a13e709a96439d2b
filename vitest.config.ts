import { fileURLToPath } from "node:url";

import { defineConfig } from "vitest/config";

const source = (path: string) => fileURLToPath(new URL(`packages/${path}`, import.meta.url));

/** `unit` runs on the sources; `system` starts the built server and talks to it. */
const alias = {
  "@tacenda/protocol": source("protocol/src/index.ts"),
  "@tacenda/sdk/admin": source("sdk/src/admin.ts"),
  "@tacenda/sdk/version-memory": source("sdk/src/version-memory.ts"),
  "@tacenda/sdk": source("sdk/src/index.ts"),
  "@tacenda/server": source("server/src/index.ts"),
};

const results = process.env.TACENDA_TEST_RESULTS;

export default defineConfig({
  test: {
    reporters: results === undefined ? ["default"] : ["default", ["json", { outputFile: results }]],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // One per core. Vitest leaves a core free, but these tests wait for servers most of the time.
    maxWorkers: "100%",
    projects: [
      { extends: true, resolve: { alias }, test: { name: "unit", include: ["packages/*/test/**/*.test.ts"] } },
      { extends: true, resolve: { alias }, test: { name: "system", include: ["tests/**/*.test.ts"] } },
    ],
  },
});
