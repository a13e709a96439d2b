/** What the first start makes is on the disk before the server listens, seen from the kernel; spec/http.md § Starting. */

import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { expect, test } from "vitest";

import { freshFolder, spawnServer } from "../server-process.ts";

const CALLS = "trace=mkdir,mkdirat,rename,renameat,renameat2,link,linkat,fsync,fdatasync,listen";
const traceable = spawnSync("strace", ["-V"]).status === 0;

test.runIf(traceable || process.env.CI !== undefined)(
  "folders, keyring and root token are synced in order",
  async () => {
    const folder = await freshFolder();
    const trace = join(folder, "trace");
    const wrapper = ["strace", "-f", "-y", "-s", "200", "-I", "2", "-e", CALLS, "-o", trace];
    const server = await spawnServer({ dataDir: join(folder, "above", "data"), wrapper });
    await server.end("SIGTERM");
    const lines = (await readFile(trace, "utf8")).split("\n");

    let at = 0;
    const follows = (what: string, call: string, ...texts: string[]) => {
      const found = lines.findIndex(
        (line, index) =>
          index >= at && new RegExp(`^\\d+ +${call}\\(`).test(line) && texts.every((text) => line.includes(text)),
      );
      expect(found, what).not.toBe(-1);
      at = found + 1;
    };
    const synced = (what: string, path: string) => follows(what, "f(?:data)?sync", `<${folder}${path}`);
    follows("the data directory is made", "mkdir(?:at)?", 'above/data"');
    synced("the folder that holds it", "/above>");
    synced("the folder above", ">");
    synced("the keyring", "/above/data/keyring.json.");
    follows("the keyring is put in place", "link(?:at)?", "keyring.json");
    synced("the keyring's name", "/above/data>");
    synced("the root token", "/above/data/root-token.");
    follows("the root token is put in place", "rename(?:at2?)?", "root-token");
    synced("the root token's name", "/above/data>");
    synced("its digest in the database", "/above/data/tacenda.db-wal");
    follows("the server listens", "listen");
  },
);
