/** Checks the server's URL and the token before anything is sent; spec/http.md § Transport. */

import { ConfigurationError } from "../errors.js";

/** Names and addresses that never leave the machine. */
function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(\.\d{1,3}){3}$/.test(hostname);
}

/**
 * The server's URL without a trailing slash.
 * @throws {ConfigurationError} when it is no URL of a server, or http beyond loopback without `allowInsecureUrl`.
 */
export function checkUrl(text: string | undefined, allowInsecureUrl: boolean): string {
  if (text === undefined || text === "") {
    throw new ConfigurationError("The server's URL is missing: pass { url } or set TACENDA_URL.");
  }
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || (url.protocol !== "https:" && url.protocol !== "http:")) {
    throw new ConfigurationError("The server's URL must begin with https://, or on this machine with http://.");
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    throw new ConfigurationError("The server's URL must have no user, password, query or fragment.");
  }
  if (/\/v1\/*$/.test(url.pathname)) throw new ConfigurationError("The server's URL must not end in /v1: it is added.");
  if (url.protocol === "http:" && !isLoopback(url.hostname) && !allowInsecureUrl) {
    throw new ConfigurationError(
      "http:// would show the token to the network. Use https://, or set allowInsecureUrl: true if you are sure.",
    );
  }
  return url.origin + url.pathname.replace(/\/+$/, "");
}

/**
 * The token as it goes into a header.
 * @throws {ConfigurationError} when it is missing or has characters no token has (a line break copied along).
 */
export function checkToken(token: string | undefined): string {
  if (token === undefined || token === "") {
    throw new ConfigurationError("The token is missing: pass { token } or set TACENDA_TOKEN.");
  }
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw new ConfigurationError("The token has white space or other characters that no token has: copy it again.");
  }
  return token;
}
