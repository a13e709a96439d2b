#!/usr/bin/env node
/** Checks the version of Node, because older ones end without a word on the database's native part; then starts. */

import { existsSync } from "node:fs";

const LEAST = [22, 13];

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
const entry = new URL("../dist/main.js", import.meta.url);

if (major < LEAST[0] || (major === LEAST[0] && minor < LEAST[1])) {
  console.error(`tacenda-server needs Node ${LEAST.join(".")} or newer; this is ${process.versions.node}.`);
  process.exitCode = 1;
} else if (!existsSync(entry)) {
  console.error("tacenda-server is not built yet. Run: npm run build");
  process.exitCode = 1;
} else {
  await import(entry.href);
}
