/** What becomes of a `.env` that is written again; spec/http.md § Starting. */

import { readFile, readdir, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { formatEnvironment, mergeEnvironment, updateEnvFile } from "../../src/cli/env-file.js";
import { StartupError } from "../../src/startup-error.js";
import { freshFolder } from "../world.js";

const OLD = "tcs_old";
const known = { url: "http://127.0.0.1:1", token: "tct_new", project: "default", store: "dev", secret: "tcs_new" };
const unknown = { ...known, secret: null };
const FOUR = "TACENDA_URL=http://127.0.0.1:1\nTACENDA_TOKEN=tct_new\nTACENDA_PROJECT=default\nTACENDA_STORE=dev\n";

describe("merging", () => {
  test.each(["A=1\n\n# mine\nTACENDA_URLS=x", "A=1\n\n# mine\nTACENDA_URLS=x\n"])(
    "keeps what is not its own",
    (old) => {
      const once = mergeEnvironment(old, known);
      expect(once).toBe(`A=1\n\n# mine\nTACENDA_URLS=x\n${FOUR}TACENDA_SECRET=tcs_new\n`);
      expect(mergeEnvironment(once, unknown)).toBe(once);
    },
  );

  test.each([
    `TACENDA_STORE=dev\nTACENDA_SECRET=${OLD}`,
    `TACENDA_SECRET=${OLD}\nTACENDA_STORE="dev"`,
    `export TACENDA_STORE='dev'\r\nTACENDA_PROJECT=default\r\nTACENDA_SECRET=${OLD}`,
  ])("keeps the secret of the same store: %j", (old) => {
    expect(mergeEnvironment(old, unknown)).toBe(`${FOUR}TACENDA_SECRET=${OLD}\n`);
  });

  test.each([
    ["another store", `TACENDA_STORE=other\nTACENDA_SECRET=${OLD}`, unknown],
    ["another project", `TACENDA_PROJECT=p\nTACENDA_STORE=dev\nTACENDA_SECRET=${OLD}`, unknown],
    ["no named store", `TACENDA_SECRET="#${OLD}"`, unknown],
    ["a store that was made anew", `TACENDA_STORE=dev\nTACENDA_SECRET=${OLD}`, known],
  ])("makes the secret of %s a comment, and loses none", (_case, old, environment) => {
    const merged = mergeEnvironment(old, environment);
    expect(merged).toMatch(/^# Earlier secret, of the store .*: TACENDA_SECRET="?#?tcs_old"?$/m);
    expect(merged).not.toMatch(/^TACENDA_SECRET=.*old/m);
    expect(mergeEnvironment(merged, environment)).toContain(OLD);
  });

  test("says once that a secret is not known", () => {
    const text = formatEnvironment(unknown);
    expect(text).toMatch(/^# TACENDA_SECRET: the store exists/m);
    expect(mergeEnvironment(`${text}TACENDA_SECRET=\n`, unknown)).toBe(text);
  });
});

describe("writing", () => {
  test("leaves the old file, and nothing beside it, when the preparation fails", async () => {
    const folder = await freshFolder();
    const file = join(folder, ".env");
    await writeFile(file, "A=1\n");
    const failing = updateEnvFile(file, known, async () => {
      expect(await readFile(file, "utf8")).toBe("A=1\n");
      expect(await readdir(folder)).toHaveLength(2);
      throw new Error("no store");
    });
    await expect(failing).rejects.toThrow("no store");
    expect(await readdir(folder)).toEqual([".env"]);
    expect(await readFile(file, "utf8")).toBe("A=1\n");
  });

  test("follows a link, and gives the file to its owner alone", async () => {
    const folder = await freshFolder();
    await writeFile(join(folder, "real"), "A=1\n", { mode: 0o644 });
    await symlink("real", join(folder, "link"));
    await updateEnvFile(join(folder, "link"), known, () => Promise.resolve());
    expect(await readFile(join(folder, "real"), "utf8")).toContain("tcs_new");
    expect((await stat(join(folder, "real"))).mode & 0o777).toBe(0o600);
  });

  test("refuses what is no file, before anything is prepared", async () => {
    const prepare = () => Promise.reject(new Error("prepared"));
    await expect(updateEnvFile(await freshFolder(), known, prepare)).rejects.toThrow(StartupError);
    await expect(updateEnvFile("/dev/null", known, prepare)).rejects.toThrow(/is not a file/);
  });
});
