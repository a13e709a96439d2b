/** What a transit key is named by on the command line, and where its token comes from; spec/envelope.md § Transit. */

import { InvalidOptionError, StartupError } from "../../startup-error.js";

/** A key of a transit engine. */
export interface TransitAddress {
  /** Of the key provider; no scheme, no query, no credential. */
  id: string;
  /** Scheme, host and port. */
  origin: string;
  mount: string;
  name: string;
  namespace: string | null;
  tokenFile: string | null;
}

const FORM = "transit:https://HOST:8200/MOUNT/keys/NAME";
const MAX_ID = 512;
/** The characters of Vault's own names; nothing of them needs escaping in a path or on a command line. */
const PATH = /^\/((?:[\w.-]+\/)*[\w.-]+)\/keys\/(\w(?:[\w.-]*\w)?)$/;
const NAMESPACE = /^[\w.-]+(?:\/[\w.-]+)*\/?$/;
const OPTIONS: readonly string[] = ["namespace", "token-file"];

/** @throws {InvalidOptionError} that does not quote `uri`, which may hold a credential by mistake. */
export function parseTransitUri(uri: string): TransitAddress {
  const url = parsed(uri.slice("transit:".length));
  if (url.username !== "" || url.password !== "") {
    throw invalid("It holds a user or password: tokens come from TACENDA_TRANSIT_TOKEN or from token-file=.");
  }
  if (url.hash !== "") throw invalid("It has a # part.");
  if (url.protocol === "http:" && !isLoopback(url.hostname)) {
    throw invalid("Beyond this machine it must be https: the token and store keys would be readable on the network.");
  }
  const [, mount, name] = PATH.exec(url.pathname) ?? [];
  if (mount === undefined || name === undefined) throw invalid("Its path must be /MOUNT/keys/NAME.");
  if (mount === "v1" || mount.startsWith("v1/")) throw invalid("Leave out /v1: it is added to every call.");
  for (const option of url.searchParams.keys()) {
    if (!OPTIONS.includes(option)) throw invalid("After the ? only namespace= and token-file= are known.");
    if (url.searchParams.getAll(option).length > 1) throw invalid(`It has ${option}= twice.`);
  }
  const namespace = url.searchParams.get("namespace");
  if (namespace !== null && !NAMESPACE.test(namespace)) throw invalid("Its namespace is not a path of names.");
  const tokenFile = url.searchParams.get("token-file");
  if (tokenFile === "" || tokenFile?.includes("\0")) throw invalid("Its token-file is not a path.");
  const port = url.port === "" ? { "http:": "80", "https:": "443" }[url.protocol] : url.port;
  const id = `transit:${url.hostname}:${port}/${mount}/keys/${name}`;
  if (id.length > MAX_ID) throw invalid(`It is longer than ${MAX_ID} characters.`);
  return { id, origin: url.origin, mount, name, namespace, tokenFile };
}

/**
 * The token of the environment. Vault's own variables come last: they are likely to be a person's, left in a shell.
 * @throws {StartupError} when there is none, or one that no header can hold.
 */
export function environmentToken(environment: NodeJS.ProcessEnv): string {
  for (const variable of ["TACENDA_TRANSIT_TOKEN", "BAO_TOKEN", "VAULT_TOKEN"]) {
    const token = environment[variable];
    if (token === undefined || token === "") continue;
    if (!isToken(token)) throw new StartupError(`${variable} holds no token: it has characters that no token has.`);
    return token;
  }
  throw new StartupError(
    "The transit key provider needs a token: set TACENDA_TRANSIT_TOKEN, or name a file that holds one with " +
      "?token-file=PATH in its URI.",
  );
}

/** Whether `text` can be sent as a token. Checked here because fetch quotes a header value that it refuses. */
export function isToken(text: string): boolean {
  return /^[\x21-\x7e]{1,8192}$/.test(text);
}

function parsed(text: string): URL {
  const url = URL.parse(text);
  if (url === null || !["http:", "https:"].includes(url.protocol)) throw invalid("It is no http or https URL.");
  return url;
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(?:\.\d{1,3}){3}$/.test(hostname);
}

function invalid(why: string): InvalidOptionError {
  return new InvalidOptionError(
    `The transit key provider is not named by a usable URI. ${why} Its form is ${FORM}; ` +
      "see docs/key-providers/transit.md.",
  );
}
