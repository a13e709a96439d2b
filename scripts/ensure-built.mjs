/** Builds when there is no dist, or a source is newer than it: what `npm start`, the examples and the tests run first. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

const PACKAGES = ["protocol", "sdk", "server"];

function times(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs);
}

const stale = PACKAGES.some((name) => {
  const dist = `packages/${name}/dist`;
  if (!existsSync(`${dist}/index.js`)) return true;
  const sources = Math.max(...times(`packages/${name}/src`), statSync(`packages/${name}/package.json`).mtimeMs);
  return sources > Math.min(...times(dist));
});
if (stale) await import("./build.mjs");
