/** TLS to PostgreSQL: which certificate is good enough for which sslmode, and that plain text is never a silent way out. */

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";

import { openPostgres } from "../../src/storage/postgres.js";
import { postgresWorld } from "./postgres-world.js";

const { cluster, create } = await postgresWorld();

describe.runIf(cluster !== null)("TLS", () => {
  let folder: string;
  let url: string;
  const certificate = () => join(folder, "cert.pem");

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "tacenda-tls-"));
    // A certificate for "localhost" that nobody else has signed.
    const request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"];
    const files = [
      "-keyout",
      join(folder, "key.pem"),
      "-out",
      certificate(),
      "-addext",
      "subjectAltName=DNS:localhost",
    ];
    execFileSync("openssl", [...request, ...files], { stdio: "ignore" });
    url = await create();
    for (const [file, name] of [
      ["key.pem", "server.key"],
      ["cert.pem", "server.crt"],
    ] as const) {
      const lines = readFileSync(join(folder, file), "utf8").trim().split("\n");
      // The server's folder belongs to another user: it writes the file itself.
      const rows = lines.map((line) => `('${line}')`).join(", ");
      await cluster?.query(`copy (values ${rows}) to program 'umask 077; cat > ${name}'`);
    }
    await cluster?.query("alter system set ssl = on");
    await cluster?.query("select pg_reload_conf()");
    await vi.waitUntil(() => isEncrypted("sslmode=require").catch(() => false), { timeout: 5_000, interval: 50 });
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  /** Whether a server's connections are under TLS, with these parameters. */
  async function isEncrypted(parameters: string, host = "localhost"): Promise<unknown> {
    const db = await openPostgres(`${url.replace("127.0.0.1", host)}?application_name=tls-test&${parameters}`);
    try {
      await db.check();
      const rows = await cluster?.query<{ ssl: boolean }>(
        "select bool_and(s.ssl) as ssl from pg_stat_ssl s join pg_stat_activity a using (pid) where a.application_name = 'tls-test'",
        url,
      );
      return rows?.[0]?.ssl;
    } finally {
      await db.close();
    }
  }

  test("is used where there is any, unless it is disabled", async () => {
    expect(await isEncrypted("")).toBe(true);
    expect(await isEncrypted("sslmode=require", "127.0.0.1")).toBe(true);
    expect(await isEncrypted("sslmode=disable")).toBe(false);
  });

  test("is verified by the authority that is named, and by the host's name where that is asked for", async () => {
    const authority = `sslrootcert=${encodeURIComponent(certificate())}`;
    expect(await isEncrypted(`sslmode=verify-full&${authority}`)).toBe(true);
    expect(await isEncrypted(`sslmode=verify-ca&${authority}`, "127.0.0.1")).toBe(true);
    await expect(isEncrypted(`sslmode=verify-full&${authority}`, "127.0.0.1")).rejects.toThrow(
      "cannot be reached (ERR_TLS_CERT_ALTNAME_INVALID)",
    );
  });

  test("by a certificate that nobody vouches for is refused where it is verified", async () => {
    for (const mode of ["verify-ca", "verify-full"]) {
      await expect(isEncrypted(`sslmode=${mode}`)).rejects.toThrow("DEPTH_ZERO_SELF_SIGNED_CERT");
    }
    await expect(isEncrypted("sslmode=verify-full&sslrootcert=/nothing")).rejects.toThrow("cannot be read");
  });

  test("that is required and not there is missed", async () => {
    await cluster?.query("alter system set ssl = off");
    await cluster?.query("select pg_reload_conf()");
    await expect.poll(() => isEncrypted("sslmode=prefer"), { timeout: 5_000 }).toBe(false);
    for (const mode of ["require", "verify-ca", "verify-full"]) {
      await expect(isEncrypted(`sslmode=${mode}`)).rejects.toThrow("has no TLS");
    }
  });
});
