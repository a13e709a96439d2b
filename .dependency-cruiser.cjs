/** The arrows of the house: protocol <- sdk, protocol <- server, and nothing else. CONTRIBUTING.md § The house. */
module.exports = {
  forbidden: [
    {
      name: "protocol-stands-alone",
      comment: "protocol is what both sides agree on: it depends on nothing, not even on Node.",
      severity: "error",
      from: { path: "^packages/protocol/src" },
      to: { pathNot: "^packages/protocol/src" },
    },
    {
      name: "sdk-knows-no-server",
      severity: "error",
      from: { path: "^packages/sdk/src" },
      to: { path: "^packages/(server|cli|console)/" },
    },
    {
      name: "server-knows-no-sdk",
      comment: "That the server cannot decrypt shows in the import graph.",
      severity: "error",
      from: { path: "^packages/server/src" },
      to: { path: "^packages/(sdk|cli|console)/|node_modules/(@noble|ky)/" },
    },
    {
      name: "sdk-runs-everywhere",
      comment:
        "No Node module in the SDK, but in the subpath for marks on disk: it runs on Workers, Deno, Bun and in browsers too.",
      severity: "error",
      from: { path: "^packages/sdk/src", pathNot: "^packages/sdk/src/version-memory" },
      to: { dependencyTypes: ["core"] },
    },
    {
      name: "ky-only-in-http",
      severity: "error",
      from: { path: "^packages/sdk/src", pathNot: "^packages/sdk/src/http/" },
      to: { path: "node_modules/ky/" },
    },
    {
      name: "sdk-crypto-is-pure",
      comment: "src/crypto is what an auditor reads: it uses noble and protocol only.",
      severity: "error",
      from: { path: "^packages/sdk/src/crypto" },
      to: { pathNot: "^packages/sdk/src/crypto|^packages/protocol/|node_modules/@noble/" },
    },
    {
      name: "storage-knows-no-keys",
      severity: "error",
      from: { path: "^packages/server/src/storage" },
      to: { path: "^packages/server/src/(envelope|http|auth|cli|backup)" },
    },
    {
      name: "envelope-knows-no-sql",
      severity: "error",
      from: { path: "^packages/server/src/envelope" },
      to: { path: "node_modules/(kysely|better-sqlite3)/|^packages/server/src/(http|auth|cli|backup)" },
    },
    {
      name: "independent-implementations",
      comment:
        "The reference and the minimal client are written from spec/ alone: node:crypto and fetch, nothing of ours.",
      severity: "error",
      from: { path: "^tests/reference/(reference|minimal-client)\\.ts$" },
      to: { pathNot: "^(crypto|node:crypto)$" },
    },
    { name: "no-cycles", severity: "error", from: {}, to: { circular: true } },
  ],
  options: {
    doNotFollow: { path: "node_modules|/dist/" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.tests.json" },
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["import", "types", "default"] },
  },
};
