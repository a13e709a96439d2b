/** A certificate and its private key, from files; spec/http.md § TLS. */

import { X509Certificate, createPrivateKey, type KeyObject } from "node:crypto";
import { open } from "node:fs/promises";
import { createSecureContext } from "node:tls";

import { StartupError, codeOf } from "./startup-error.js";

/** Permissions of those who are neither the owner nor of the file's group. */
const OTHERS = 0o007;
/** Far more than a chain of certificates has. */
const MAX_BYTES = 1_048_576;

/** Where a certificate and its key are. */
export interface TlsFiles {
  /** In PEM: the certificate, and behind it those that lead to its authority. */
  readonly certFile: string;
  /** In PEM, without a passphrase; no other user may have any access to the file, its group may. */
  readonly keyFile: string;
}

/** A certificate and the key that fits it. */
export interface KeyPair {
  /** As in the files. */
  readonly cert: Buffer;
  readonly key: Buffer;
  /** From when the certificate is valid, and until when, in milliseconds since the epoch. */
  readonly validFrom: number;
  readonly validTo: number;
}

/** Reads and tries both. @throws {StartupError} when one cannot be read or used, or they do not go together. */
export async function readTlsFiles({ certFile, keyFile }: TlsFiles): Promise<KeyPair> {
  const cert = await contentOf("certificate", certFile);
  const key = await contentOf("private key", keyFile);
  const certificate = parseCertificate(cert, certFile);
  if (!certificate.checkPrivateKey(parseKey(key, keyFile))) {
    throw new StartupError(
      `The private key ${keyFile} does not fit the first certificate in ${certFile}: name the two that were made together.`,
    );
  }
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    throw new StartupError(
      `The certificate ${certFile} and its private key cannot be used (${codeOf(error) ?? "no code"}): make new ones.`,
    );
  }
  return { cert, key, validFrom: certificate.validFromDate.getTime(), validTo: certificate.validToDate.getTime() };
}

/** What is wrong with the pair at a time, in milliseconds since the epoch; null if nothing is. */
export function describeInvalidity({ validFrom, validTo }: KeyPair, now: number): string | null {
  if (now > validTo) return `the certificate has expired, at ${new Date(validTo).toISOString()}`;
  if (now < validFrom) return `the certificate is not valid yet, but from ${new Date(validFrom).toISOString()}`;
  return null;
}

async function contentOf(what: "certificate" | "private key", file: string): Promise<Buffer> {
  try {
    await using handle = await open(file, "r");
    const stat = await handle.stat();
    if (!stat.isFile()) throw new StartupError(`The ${what} ${file} is not a file: name the file itself.`);
    // Windows has no such modes.
    if (what === "private key" && process.platform !== "win32" && (stat.mode & OTHERS) !== 0) {
      throw new StartupError(`The private key ${file} is open to other users: run chmod o= ${file}`);
    }
    if (stat.size > MAX_BYTES) throw new StartupError(`The file ${file} is too large to be a ${what}.`);
    return await handle.readFile();
  } catch (error) {
    if (error instanceof StartupError) throw error;
    throw new StartupError(
      `The ${what} ${file} cannot be read (${codeOf(error) ?? "no code"}). Check its path, and that this user can read it.`,
    );
  }
}

/** The first one in the file, once OpenSSL has taken all of them. */
function parseCertificate(cert: Buffer, file: string): X509Certificate {
  try {
    // X509Certificate takes DER as well, which the listener does not, and looks at no further certificate.
    createSecureContext({ cert });
    return new X509Certificate(cert);
  } catch (error) {
    throw new StartupError(
      `The file ${file} is no certificate in PEM, or one in it is damaged (${codeOf(error) ?? "no code"}).`,
    );
  }
}

function parseKey(key: Buffer, file: string): KeyObject {
  try {
    return createPrivateKey({ key, format: "pem" });
  } catch (error) {
    throw new StartupError(
      `The file ${file} is no private key in PEM without a passphrase (${codeOf(error) ?? "no code"}).`,
    );
  }
}
