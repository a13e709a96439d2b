/** A certificate whose files are renewed while the server runs; spec/http.md § TLS. */

import { chmod, copyFile, readFile, rename } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from "vitest";

import { ServerCertificate } from "../src/server-certificate.js";
import type { KeyPair, TlsFiles } from "../src/tls-files.js";
import { Authority, replaceFiles } from "./certificates.js";

const DAY = 24 * 3_600_000;
const INTERVAL = 20;

let authority: Authority;
let files: TlsFiles;
let other: TlsFiles;

beforeAll(async () => {
  authority = await Authority.create();
});
afterAll(() => authority[Symbol.asyncDispose]());
beforeEach(async () => {
  files = await authority.issue();
  other = await authority.issue();
});

/** A certificate that is followed, what was made of it, and what was logged. */
async function follow({ clock = { now: Date.now() }, interval = INTERVAL } = {}) {
  const lines: string[] = [];
  const used: KeyPair[] = [];
  const expiries: number[] = [];
  const log = (level: string) => (fields: object, message: string) =>
    void lines.push(`${level} ${message} ${JSON.stringify(fields)}`);
  const certificate = await ServerCertificate.open({
    files,
    logger: { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") },
    now: () => clock.now,
    interval,
    onExpiry: (validTo) => expiries.push(validTo),
  });
  onTestFinished(() => certificate.stop());
  certificate.follow((renewed) => used.push(renewed));
  return { certificate, used, lines, expiries };
}

/** Several looks later. */
const later = () => sleep(8 * INTERVAL);

test("renewed files are taken up once, and what is the same is not", async () => {
  const { certificate, used, lines, expiries } = await follow();
  await later();
  expect(used).toEqual([]);
  await replaceFiles(files, other);
  await vi.waitUntil(() => used.length > 0);
  await later();
  expect(used.map(({ cert }) => cert)).toEqual([await readFile(other.certFile)]);
  expect(certificate.current).toBe(used[0]);
  expect(lines.filter((line) => !line.startsWith("info the certificate was renewed"))).toEqual([]);
  expect(expiries).toHaveLength(2);
});

test("a look between the two files being replaced is no trouble", async () => {
  const interval = 500;
  const { used, lines } = await follow({ interval });
  await copyFile(other.keyFile, files.keyFile);
  await sleep(1.5 * interval);
  expect([used, lines]).toEqual([[], []]);
  await copyFile(other.certFile, files.certFile);
  await vi.waitUntil(() => used.length > 0);
  expect(lines).toEqual([expect.stringMatching(/^info the certificate was renewed/)]);
});

test("what cannot be used changes nothing, is told once, and what follows it is taken up", async () => {
  const { certificate, used, lines } = await follow();
  const first = certificate.current;
  await copyFile(other.keyFile, `${files.keyFile}.new`);
  await rename(`${files.keyFile}.new`, files.keyFile);
  await vi.waitUntil(() => lines.length > 0);
  await later();
  expect(lines).toEqual([expect.stringMatching(/^warn .*the one before stays in use.*does not fit/)]);
  await chmod(files.keyFile, 0o644);
  await vi.waitUntil(() => lines.length > 1);
  await later();
  expect(lines.slice(1)).toEqual([expect.stringMatching(/^warn .*open to other users/)]);
  expect([certificate.current, used]).toEqual([first, []]);
  await replaceFiles(files, other);
  await vi.waitUntil(() => used.length > 0);
  expect(lines[2]).toMatch(/^info the certificate was renewed/);
});

test("one that is not valid at that time does not take the place of one that is", async () => {
  const clock = { now: Date.now() };
  files = await authority.issue(30);
  const { certificate, used, lines } = await follow({ clock });
  clock.now += 20 * DAY;
  await replaceFiles(files, await authority.issue(10));
  await vi.waitUntil(() => lines.length > 0);
  expect(lines).toEqual([expect.stringMatching(/^warn .*the one before stays in use.*has expired/)]);
  expect(used).toEqual([]);
  expect(certificate.current.validTo).toBeGreaterThan(clock.now);
});

test("the first one is used although it has expired, with a warning", async () => {
  const { certificate, lines } = await follow({ clock: { now: Date.now() + 4_000 * DAY } });
  expect(lines).toEqual([expect.stringMatching(/^warn the certificate has expired/)]);
  expect(certificate.current.cert).toEqual(await readFile(files.certFile));
});

test("nothing is looked at after the stop", async () => {
  const { certificate, used } = await follow();
  certificate.stop();
  await replaceFiles(files, other);
  await later();
  expect(used).toEqual([]);
});
