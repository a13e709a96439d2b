/** HTTPS by certificate files, from outside: the program, its workers and the SDK; docs/running.md § TLS. */

import { once } from "node:events";
import { chmod, copyFile, rename, writeFile } from "node:fs/promises";
import { Agent, request } from "node:https";
import { connect as connectTcp } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, getCACertificates, setDefaultCACertificates, type ConnectionOptions } from "node:tls";

import { Tacenda, TacendaError, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import type { TlsFiles } from "@tacenda/server";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";

import { Authority, replaceFiles } from "../../packages/server/test/certificates.ts";
import { freshPlace } from "../reliability/databases.ts";
import { SHORT_LIMITS } from "../reliability/seeded-bugs.ts";
import { seedServer, type Edit } from "../seeded-server.ts";
import { freshFolder, runCommand, spawnServer, type ProcessOptions, type ServerProcess } from "../server-process.ts";

const ROOT_TOKEN = "root-token-of-the-tls-tests-0123456789";
const WAIT = { timeout: 20_000, interval: 50 };

/** No bug: looks for renewed files much sooner. */
const LOOK_SOON: Edit = { find: "LOOK_MILLISECONDS = 6e4", replace: "LOOK_MILLISECONDS = 100" };
/** Long enough for several looks. */
const LOOKS_MILLISECONDS = 1_000;
const SHORT_REQUEST_MILLISECONDS = 3_000;

const RENEWAL_IGNORED: Edit = { find: "server.setSecureContext(contextOf(renewed))", replace: "void renewed" };
const RENEWAL_CUTS: Edit = {
  find: "server.setSecureContext(contextOf(renewed))",
  replace: "(server.setSecureContext(contextOf(renewed)), server.closeAllConnections())",
};
const ANY_VERSION: Edit = { find: ', minVersion: "TLSv1.2" };', replace: " };" };
/** A handshake that has taken too long is answered, in vain, and not cut. */
const LATE_HANDSHAKES_KEPT: Edit = {
  find: 'server.prependListener("tlsClientError", (_error, socket) => socket.destroy());',
  replace: "",
};

let authority: Authority;

beforeAll(async () => {
  authority = await Authority.create();
  setDefaultCACertificates([...getCACertificates("default"), authority.certificate]);
});
afterAll(() => authority[Symbol.asyncDispose]());

/** A server with files of its own, which looks for others all the time. */
async function start({
  edits = [],
  flags = [],
  files: given,
  ...options
}: Partial<ProcessOptions> & { edits?: readonly Edit[]; files?: TlsFiles } = {}) {
  const files = given ?? (await authority.issue());
  const bin = await seedServer(await freshFolder(), [LOOK_SOON, ...edits]);
  const server = await spawnServer({
    dataDir: join(await freshFolder(), "data"),
    bin,
    rootToken: ROOT_TOKEN,
    flags: [...tlsFlags(files), ...flags],
    ...options,
  });
  return { server, files, port: Number(new URL(server.url).port) };
}

const tlsFlags = ({ certFile, keyFile }: TlsFiles) => ["--tls-cert", certFile, "--tls-key", keyFile];

/** The number of the certificate that a new connection is shown. @throws what the handshake fails with */
async function serialOf(port: number, options: ConnectionOptions = {}): Promise<string> {
  const socket = connect({ port, host: "127.0.0.1", ...options });
  try {
    await once(socket, "secureConnect");
    return socket.getPeerCertificate().serialNumber;
  } finally {
    socket.destroy();
  }
}

/** Writes and reads a value with the SDK. */
async function useIt(url: string): Promise<string | null> {
  const admin = new TacendaAdmin({ url, token: ROOT_TOKEN });
  await admin.stores.create("tls");
  const grants = [{ stores: ["tls"], permissions: ["read" as const, "write" as const] }];
  const { token } = await admin.tokens.create("tls", grants);
  const store = new Tacenda({ url, token }).getStore("tls", { secret: generateSecret() });
  await store.setValue("key", "a value".repeat(20_000));
  return await store.getValue("key");
}

/** Requests one after the other on one connection: their statuses, or what they failed with, and the local ports. */
function goOn(url: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  const seen = { answers: new Set<number | string>(), ports: new Set<number>(), count: 0 };
  const over = new AbortController();
  const one = async () => {
    const sent = request(`${url}/readyz`, { agent }).end();
    const [answer] = (await once(sent, "response")) as [NodeJS.ReadableStream & { statusCode: number }];
    if (sent.socket?.localPort !== undefined) seen.ports.add(sent.socket.localPort);
    answer.resume();
    await once(answer, "end");
    return answer.statusCode;
  };
  const ended = (async () => {
    while (!over.signal.aborted) {
      seen.answers.add(await one().catch((error: unknown) => String(error)));
      seen.count++;
      await sleep(5);
    }
  })();
  return async () => {
    over.abort();
    await ended;
    return seen;
  };
}

const problems = (server: ServerProcess) =>
  server
    .output()
    .split("\n")
    .filter((line) => line.includes("the one before stays in use"));

/** What is amiss when the files are renewed under a client that goes on. */
async function renew(edits: readonly Edit[] = []): Promise<string[]> {
  const { server, files, port } = await start({ edits });
  const before = await serialOf(port);
  const end = goOn(server.url);
  await sleep(LOOKS_MILLISECONDS / 2);
  await replaceFiles(files, await authority.issue());
  await expect.poll(() => server.output(), WAIT).toContain("the certificate was renewed");
  await sleep(LOOKS_MILLISECONDS / 2);
  const { answers, ports, count } = await end();
  expect(count).toBeGreaterThan(20);
  return [
    ...((await serialOf(port)) === before ? ["the old one is shown"] : []),
    ...(ports.size === 1 ? [] : ["connections were cut"]),
    ...[...answers].filter((answer) => answer !== 200).map(String),
  ];
}

/** What is amiss with clients whose handshakes never end. */
async function holdHandshakes(edits: readonly Edit[] = []): Promise<string[]> {
  const { server, port } = await start({ edits: [SHORT_LIMITS, ...edits] });
  const started = performance.now();
  const sockets = Array.from({ length: 50 }, (_, index) => {
    const socket = connectTcp(port, "127.0.0.1").on("error", () => undefined);
    onTestFinished(() => void socket.destroy());
    // The begin of a handshake, and nothing.
    if (index % 2 === 0) socket.write(Buffer.from("160301020001", "hex"));
    return { socket, closed: new Promise((resolve) => socket.resume().once("close", resolve)) };
  });
  const others = await useIt(server.url);
  const late = sleep(3 * SHORT_REQUEST_MILLISECONDS, "late");
  const ends = await Promise.all(sockets.map(({ closed }) => Promise.race([closed, late])));
  const took = performance.now() - started;
  return [
    ...(others === null ? ["others were not served"] : []),
    ...(ends.includes("late") ? ["not cut"] : []),
    ...(took < SHORT_REQUEST_MILLISECONDS * 0.9 ? ["cut too soon"] : []),
  ];
}

/** What is amiss with old versions of TLS where all of this Node would take them. */
async function offerOld(edits: readonly Edit[] = []): Promise<string[]> {
  const env = { NODE_OPTIONS: "--tls-min-v1.0 --tls-cipher-list=DEFAULT@SECLEVEL=0" };
  const { server, files, port } = await start({ edits, env });
  const old = { minVersion: "TLSv1.1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" } as const;
  const taken = async (when: string) =>
    await serialOf(port, old).then(
      () => [`TLS 1.1 is taken ${when}`],
      () => [],
    );
  const first = await taken("at first");
  await serialOf(port, { minVersion: "TLSv1.2", maxVersion: "TLSv1.2" });
  await replaceFiles(files, await authority.issue());
  await expect.poll(() => server.output(), WAIT).toContain("the certificate was renewed");
  return [...first, ...(await taken("after a renewal"))];
}

describe("a server with a certificate", { timeout: 60_000 }, () => {
  test("is used by the SDK as any other, and by commands that know its authority", async () => {
    const { server, port } = await start();
    expect(server.url).toBe(`https://127.0.0.1:${port}`);
    expect(await useIt(server.url)).toBe("a value".repeat(20_000));
    const status = (env: Record<string, string>) =>
      runCommand(["keys", "status", "--url", `https://localhost:${port}`], {
        env: { TACENDA_ROOT_TOKEN: ROOT_TOKEN, ...env },
      });
    expect(await status({ NODE_EXTRA_CA_CERTS: authority.file })).toMatchObject({ code: 0 });
    const refused = await status({});
    const untrusted =
      "The server's certificate is not trusted (UNABLE_TO_VERIFY_LEAF_SIGNATURE): set NODE_EXTRA_CA_CERTS";
    expect([refused.code, refused.output]).toEqual([1, expect.stringContaining(untrusted)]);
    const plain = await runCommand(["keys", "status", "--url", `http://127.0.0.1:${port}`], {
      env: { TACENDA_ROOT_TOKEN: ROOT_TOKEN },
    });
    expect([plain.code, plain.output]).toEqual([1, expect.stringContaining("If it serves HTTPS, write https://.")]);
  });

  test("that is not trusted, or is for another name, is an error of the SDK's that says so", async () => {
    await using unknown = await Authority.create();
    const [stranger, known] = [
      await start({ files: await unknown.issue() }),
      await start({ flags: ["--host", "0.0.0.0"] }),
    ];
    for (const [url, code] of [
      [stranger.server.url, "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
      [`https://127.0.0.2:${known.port}`, "ERR_TLS_CERT_ALTNAME_INVALID"],
    ] as const) {
      const store = new Tacenda({ url, token: ROOT_TOKEN }).getStore("tls", { secret: generateSecret() });
      const message = expect.stringContaining(
        `certificate is not trusted (${code}): on Node, set NODE_EXTRA`,
      ) as string;
      await expect(store.verify()).rejects.toMatchObject({ code: "server_unreachable", retryable: false, message });
    }
  });

  test("takes both files from variables, and speaks nothing but TLS", async () => {
    const files = await authority.issue();
    const env = { TACENDA_TLS_CERT: files.certFile, TACENDA_TLS_KEY: files.keyFile };
    const server = await spawnServer({ dataDir: join(await freshFolder(), "data"), rootToken: ROOT_TOKEN, env });
    const port = Number(new URL(server.url).port);
    expect(await serialOf(port)).toMatch(/^[0-9A-F]+$/);
    const plain = new Tacenda({ url: `http://127.0.0.1:${port}`, token: ROOT_TOKEN, maxAttempts: 1 });
    const error: unknown = await plain
      .getStore("tls", { secret: generateSecret() })
      .verify()
      .catch((e: unknown) => e);
    expect(TacendaError.is(error, "server_unreachable") && error.message).toContain(
      "If it serves HTTPS, write https://.",
    );
    expect((await fetch(`${server.url}/livez`)).status).toBe(200);
  });

  test("shows renewed files to new connections, and cuts none", async () => {
    expect(await renew()).toEqual([]);
  });

  test("goes on with what it has while the renewed files cannot be used, and says so once", async () => {
    const { server, files, port } = await start();
    const before = await serialOf(port);
    const other = await authority.issue();
    const end = goOn(server.url);
    for (const [index, spoil] of [
      () => copyFile(other.keyFile, `${files.keyFile}.new`).then(() => rename(`${files.keyFile}.new`, files.keyFile)),
      () => chmod(files.keyFile, 0o644),
      () => writeFile(files.certFile, "cut short").then(() => chmod(files.keyFile, 0o600)),
    ].entries()) {
      await spoil();
      await expect.poll(() => problems(server).length, WAIT).toBe(index + 1);
      await sleep(LOOKS_MILLISECONDS);
      expect(problems(server)).toHaveLength(index + 1);
      expect(await serialOf(port)).toBe(before);
    }
    expect(problems(server).map((line) => /does not fit|open to other users|no certificate/.exec(line)?.[0])).toEqual([
      "does not fit",
      "open to other users",
      "no certificate",
    ]);
    await replaceFiles(files, other);
    await expect.poll(() => serialOf(port), WAIT).not.toBe(before);
    const { answers, ports } = await end();
    expect([[...answers], ports.size]).toEqual([[200], 1]);
  });

  test("that has expired warns of it, serves, and takes up the next one", async () => {
    const files = await authority.issue(0);
    await sleep(1_100);
    const { server, port } = await start({ files });
    expect(server.output()).toMatch(/"level":40,.*the certificate has expired, at .*: clients refuse it/);
    await expect(serialOf(port)).rejects.toThrow("certificate has expired");
    await replaceFiles(files, await authority.issue());
    await expect.poll(() => server.output(), WAIT).toContain("the certificate was renewed");
    expect(await serialOf(port)).toMatch(/^[0-9A-F]+$/);
  });

  test("cuts handshakes that never end, while others are served", async () => {
    expect(await holdHandshakes()).toEqual([]);
  });

  test("takes no version of TLS before 1.2, whatever Node is told, after a renewal neither", async () => {
    expect(await offerOld()).toEqual([]);
  });
});

test("does not start with what cannot be used, and says why", { timeout: 60_000 }, async () => {
  const [files, other] = [await authority.issue(), await authority.issue()];
  const open = await authority.issue();
  await chmod(open.keyFile, 0o644);
  const dataDir = join(await freshFolder(), "data");
  for (const [flags, code, message] of [
    [
      ["--tls-cert", files.certFile],
      2,
      "give both --tls-cert (TACENDA_TLS_CERT) and --tls-key (TACENDA_TLS_KEY), or neither",
    ],
    [["--tls-key", files.keyFile], 2, "give both"],
    [tlsFlags({ ...files, keyFile: other.keyFile }), 1, "does not fit"],
    [tlsFlags({ ...files, certFile: `${files.certFile}.missing` }), 1, "cannot be read (ENOENT)"],
    [tlsFlags({ certFile: files.keyFile, keyFile: files.certFile }), 1, "run chmod o="],
    [tlsFlags(open), 1, `run chmod o= ${open.keyFile}`],
    [["--trusted-proxies", "10.0.0.0/33"], 2, "is no address and no network"],
  ] as const) {
    const { code: got, output } = await runCommand(["serve", "--port", "0", "--data-dir", dataDir, ...flags]);
    expect([got, output]).toEqual([code, expect.stringContaining(message)]);
    expect(output).not.toMatch(/PRIVATE KEY|at .*\.js/);
  }
});

test("workers share the port, and all of them show what was renewed", { timeout: 120_000 }, async () => {
  const place = await freshPlace("PostgreSQL");
  const { server, files, port } = await start({
    ...{ dataDir: place.dataDir, env: place.env },
    flags: ["--workers", "3", "--metrics-port", "0"],
  });
  expect(server.url).toBe(`https://127.0.0.1:${port}`);
  expect(await useIt(server.url)).not.toBeNull();
  const serials = async () => new Set(await Promise.all(Array.from({ length: 12 }, () => serialOf(port))));
  const before = await serials();
  expect(before.size).toBe(1);
  const end = goOn(server.url);
  await replaceFiles(files, await authority.issue(100));
  await expect.poll(async () => [...(await serials())].some((serial) => before.has(serial)), WAIT).toBe(false);
  expect((await serials()).size).toBe(1);
  const { answers, ports } = await end();
  expect([[...answers], ports.size]).toEqual([[200], 1]);
  const text = await (await fetch(server.metricsUrl ?? "")).text();
  const expiry = Number(/^tacenda_tls_certificate_expiry_timestamp_seconds (.*)$/m.exec(text)?.[1]);
  expect(Math.abs(expiry - Date.now() / 1_000 - 100 * 24 * 3_600)).toBeLessThan(600);
});

test("a forwarded address is logged when the proxy is trusted, and never otherwise", { timeout: 60_000 }, async () => {
  for (const [flags, expected] of [
    [[], "127.0.0.1"],
    [["--trusted-proxies", "10.0.0.0/8 ::1"], "127.0.0.1"],
    [["--trusted-proxies", "10.0.0.0/8,127.0.0.1"], "198.51.100.7"],
  ] as const) {
    const server = await spawnServer({ dataDir: join(await freshFolder(), "data"), flags });
    await fetch(`${server.url}/v1/token`, { headers: { "x-forwarded-for": "1.1.1.1, 198.51.100.7" } });
    await expect.poll(() => server.output(), WAIT).toContain(`"address":"${expected}"`);
    expect(server.output()).not.toContain("1.1.1.1");
  }
});

describe("this suite catches", { timeout: 60_000 }, () => {
  test.each([
    ["renewed files that are ignored", RENEWAL_IGNORED, renew, ["the old one is shown"]],
    ["connections cut by a renewal", RENEWAL_CUTS, renew, ["connections were cut"]],
    ["handshakes that are never given up", LATE_HANDSHAKES_KEPT, holdHandshakes, ["not cut"]],
    ["any version of TLS", ANY_VERSION, offerOld, ["TLS 1.1 is taken at first", "TLS 1.1 is taken after a renewal"]],
  ] as const)("%s", async (_bug, edit, trial, faults) => {
    expect(await trial([edit])).toEqual(expect.arrayContaining([...faults]));
  });
});
