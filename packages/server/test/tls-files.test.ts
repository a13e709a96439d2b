/** Which files make a certificate and key that the server can use, and what is said of others; spec/http.md § TLS. */

import { execFileSync } from "node:child_process";
import { appendFile, chmod, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";

import { StartupError } from "../src/startup-error.js";
import { describeInvalidity, readTlsFiles, type TlsFiles } from "../src/tls-files.js";
import { Authority } from "./certificates.js";
import { freshFolder } from "./world.js";

const DAY = 24 * 3_600_000;

let authority: Authority;
let files: TlsFiles;

beforeAll(async () => {
  authority = await Authority.create();
});
afterAll(() => authority[Symbol.asyncDispose]());
beforeEach(async () => {
  files = await authority.issue(10);
});

/** What reading them fails with. It names the file, and holds nothing of the key. */
async function refusal(of: Partial<TlsFiles> = {}): Promise<string> {
  const key = await readFile(files.keyFile, "utf8").catch(() => "");
  const error: unknown = await readTlsFiles({ ...files, ...of }).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(StartupError);
  const { message } = error as StartupError;
  for (const line of key.split("\n").filter((text) => text.length > 8)) expect(message).not.toContain(line);
  return message;
}

test("a certificate, also with its authority's behind it, and its key are read, with the time they are good for", async () => {
  await appendFile(files.certFile, authority.certificate);
  const pair = await readTlsFiles(files);
  expect(pair.cert).toEqual(await readFile(files.certFile));
  expect(pair.key).toEqual(await readFile(files.keyFile));
  expect(Math.abs(pair.validTo - Date.now() - 10 * DAY)).toBeLessThan(60_000);
  expect(describeInvalidity(pair, Date.now())).toBeNull();
  expect(describeInvalidity(pair, pair.validTo + 1)).toContain("has expired");
  expect(describeInvalidity(pair, pair.validFrom - 1)).toContain("is not valid yet");
});

test("a file that is missing, a folder, or no file in PEM is named", async () => {
  const folder = await freshFolder();
  const [missing, other, der] = ["missing", "other", "der"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  await writeFile(other, "neither of both\n", { mode: 0o600 });
  execFileSync("openssl", ["x509", "-in", files.certFile, "-outform", "DER", "-out", der]);
  for (const name of ["certFile", "keyFile"] as const) {
    const what = name === "certFile" ? "certificate" : "private key";
    expect(await refusal({ [name]: missing })).toContain(`The ${what} ${missing} cannot be read (ENOENT)`);
    expect(await refusal({ [name]: folder })).toContain(`The ${what} ${folder} is not a file`);
    expect(await refusal({ [name]: other })).toMatch(new RegExp(`${other} is no ${what} in PEM`));
  }
  expect(await refusal({ certFile: der })).toContain("is no certificate in PEM");
});

test("one damaged certificate further down is noticed", async () => {
  const [first = ""] = authority.certificate.split("\n").slice(1);
  await appendFile(files.certFile, authority.certificate.replace(first, first.replace(/.{8}$/, "AAAAAAAA").slice(1)));
  expect(await refusal()).toContain("is damaged");
});

test("another certificate's key, and an encrypted one, are refused", async () => {
  const { keyFile } = await authority.issue();
  expect(await refusal({ keyFile })).toContain("does not fit the first certificate");
  const encrypted = `${files.keyFile}.encrypted`;
  const args = ["pkey", "-in", files.keyFile, "-aes256", "-passout", "pass:secret", "-out", encrypted];
  execFileSync("openssl", args);
  await chmod(encrypted, 0o600);
  expect(await refusal({ keyFile: encrypted })).toContain("without a passphrase");
});

test.runIf(process.platform !== "win32")("a key that others can get at is refused, one of a group is not", async () => {
  for (const mode of [0o644, 0o602, 0o601]) {
    await chmod(files.keyFile, mode);
    expect(await refusal()).toContain(`open to other users: run chmod o= ${files.keyFile}`);
  }
  for (const mode of [0o640, 0o400, 0o600]) {
    await chmod(files.keyFile, mode);
    await readTlsFiles(files);
  }
});
