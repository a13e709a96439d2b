/** An authority of the tests' own, and certificates that it issues, made by the openssl command. */

import { execFile } from "node:child_process";
import { chmod, copyFile, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import type { TlsFiles } from "../src/tls-files.js";

const openssl = (...args: string[]) => promisify(execFile)("openssl", args);
const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
const NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n";

export class Authority implements AsyncDisposable {
  readonly #folder: string;
  /** In PEM: what clients are to trust. */
  readonly certificate: string;
  /** The file that it is in. */
  readonly file: string;
  #issued = 0;

  private constructor(folder: string, file: string, certificate: string) {
    this.#folder = folder;
    this.file = file;
    this.certificate = certificate;
  }

  static async create(): Promise<Authority> {
    const folder = await mkdtemp(join(tmpdir(), "tacenda-authority-"));
    const [key, file] = [join(folder, "authority.key"), join(folder, "authority.pem")];
    await openssl("req", "-x509", ...NEW_KEY, "-days", "3650", "-subj", "/CN=tests", "-keyout", key, "-out", file);
    await writeFile(join(folder, "extensions"), NAMES);
    return new Authority(folder, file, await readFile(file, "utf8"));
  }

  /** A new certificate for "localhost" and 127.0.0.1, valid from now on for so many days, and its key (0600). */
  async issue(days = 3_650): Promise<TlsFiles> {
    const at = (name: string) => join(this.#folder, `${this.#issued}-${name}.pem`);
    this.#issued++;
    const files = { certFile: at("cert"), keyFile: at("key") };
    await openssl("req", ...NEW_KEY, "-subj", "/CN=localhost", "-keyout", files.keyFile, "-out", at("request"));
    const signed = ["-CA", this.file, "-CAkey", join(this.#folder, "authority.key"), "-CAcreateserial"];
    const more = ["-days", String(days), "-extfile", join(this.#folder, "extensions"), "-out", files.certFile];
    await openssl("x509", "-req", "-in", at("request"), ...signed, ...more);
    await chmod(files.keyFile, 0o600);
    return files;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** Puts copies in the place of others, each file in one step, as programs that renew certificates do. */
export async function replaceFiles(files: TlsFiles, by: TlsFiles): Promise<void> {
  for (const name of ["certFile", "keyFile"] as const) {
    await copyFile(by[name], `${files[name]}.new`);
    await rename(`${files[name]}.new`, files[name]);
  }
}
