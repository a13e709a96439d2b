/** Asks a running server for what only root may, over plain HTTP; spec/http.md § Keys. The server never imports the SDK. */

import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";

import type { ErrorBody } from "@tacenda/protocol";

import { InvalidOptionError, StartupError, codeOf } from "../startup-error.js";

/** Some providers take their time to rotate. */
const TIMEOUT_MILLISECONDS = 90_000;
/** Far more than any answer to an administrator of ten thousand stores. */
const MAX_ANSWER_BYTES = 16_777_216;
/** What Node calls the ways in which a certificate is not to be trusted. */
const UNTRUSTED =
  /^(UNABLE_TO_(VERIFY_LEAF_SIGNATURE|GET_ISSUER_CERT_LOCALLY)|SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|ERR_TLS_CERT_ALTNAME_INVALID|CERT_HAS_EXPIRED)$/;
/** As a server that speaks TLS alone does when it is sent plain HTTP. */
const CLOSED = /^(UND_ERR_SOCKET|ECONNRESET)$/;
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/;

export interface AdminFlags {
  url: string;
  dataDir: string;
}

export interface AdminClient {
  get<Answer>(path: string): Promise<Answer>;
  post<Answer>(path: string, body: object): Promise<Answer>;
}

/**
 * A client with the root token of the environment (TACENDA_ROOT_TOKEN, else TACENDA_TOKEN), or of the file that the server's
 * first start wrote.
 *
 * @throws {InvalidOptionError} when the URL would send the token in plain, or there is no token.
 */
export async function openAdminClient(flags: AdminFlags, environment: NodeJS.ProcessEnv): Promise<AdminClient> {
  const base = checkUrl(flags.url);
  const found = await findToken(flags.dataDir, environment);
  if (found === null) {
    throw new InvalidOptionError(
      "Set TACENDA_ROOT_TOKEN to the root token, or name with --data-dir where the server's first start left the file root-token.",
    );
  }
  const { token, origin } = found;
  const send = async <Answer>(method: string, path: string, body?: object): Promise<Answer> => {
    const url = new URL(path, base);
    const answer = await request(url, {
      method,
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS),
      headers: { authorization: `Bearer ${token.trim()}`, ...(body && { "content-type": "application/json" }) },
      ...(body && { body: JSON.stringify(body) }),
    });
    return await read<Answer>(answer, url, origin);
  };
  return { get: (path) => send("GET", path), post: (path, body) => send("POST", path, body) };
}

function checkUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isSafe = url?.protocol === "https:" || (url?.protocol === "http:" && LOOPBACK.test(url.hostname));
  if (url !== null && isSafe) return url;
  throw new InvalidOptionError("--url must be https://…, or http://… of this machine: the root token travels with it.");
}

/** A token, and where it is from. */
interface FoundToken {
  token: string;
  origin: string;
}

async function findToken(dataDir: string, environment: NodeJS.ProcessEnv): Promise<FoundToken | null> {
  for (const origin of ["TACENDA_ROOT_TOKEN", "TACENDA_TOKEN"]) {
    const token = environment[origin];
    if (token !== undefined) return { token, origin };
  }
  const file = join(dataDir, "root-token");
  const token = await readFile(file, "utf8").catch(() => null);
  return token === null ? null : { token, origin: `the file ${resolve(file)}` };
}

/** @throws {StartupError} when there is no answer. */
async function request(url: URL, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    const why = codeOf(cause) ?? codeOf(error) ?? (error instanceof Error ? error.name : "failed");
    if (UNTRUSTED.test(why)) {
      throw new StartupError(
        `The server's certificate is not trusted (${why}): set NODE_EXTRA_CA_CERTS to the authority's file; the name in --url must be in the certificate.`,
      );
    }
    const hint = url.protocol === "http:" && CLOSED.test(why) ? " If it serves HTTPS, write https://." : "";
    throw new StartupError(`No server answers at ${url.origin} (${why}). Start it, or name it with --url.${hint}`);
  }
}

/** `origin`: of the token. @throws {StartupError} with what the server says, when it refuses. */
async function read<Answer>(answer: Response, url: URL, origin: string): Promise<Answer> {
  const body = parse(await textOf(answer, url));
  if (answer.ok && body !== null) return body as Answer;
  const error = (body as Partial<ErrorBody> | null)?.error;
  if (answer.status === 401) {
    throw new StartupError(`The server refuses the token of ${origin}: it must be its root token.`);
  }
  if (error === undefined) {
    throw new StartupError(`${url.origin} answers ${answer.status}, and not as a Tacenda server of this version does.`);
  }
  throw new StartupError(`${error.message} (${error.code})`);
}

/** No more than an answer can have. */
async function textOf(answer: Response, url: URL): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    // Node's streams can be iterated, which the DOM's types do not know.
    for await (const part of (answer.body ?? []) as unknown as AsyncIterable<Uint8Array>) {
      parts.push(part);
      length += part.length;
      if (length > MAX_ANSWER_BYTES) break;
    }
  } catch {
    throw new StartupError(`The answer of ${url.origin} broke off. Look at the state of the keys, then try again.`);
  }
  return Buffer.concat(parts).toString("utf8");
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}
