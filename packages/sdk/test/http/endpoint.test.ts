import { expect, test } from "vitest";

import { ConfigurationError } from "../../src/errors.js";
import { checkToken, checkUrl } from "../../src/http/endpoint.js";

test.each([
  ["https://secrets.example.com", "https://secrets.example.com"],
  ["https://secrets.example.com/", "https://secrets.example.com"],
  ["https://example.com/tacenda//", "https://example.com/tacenda"],
  ["http://localhost:4200", "http://localhost:4200"],
  ["http://127.0.0.1:4200/", "http://127.0.0.1:4200"],
  ["http://127.8.9.1", "http://127.8.9.1"],
  ["http://[::1]:4200", "http://[::1]:4200"],
])("%s is a server's URL", (url, expected) => expect(checkUrl(url, false)).toBe(expected));

test.each([
  undefined,
  "",
  "secrets.example.com",
  "ftp://example.com",
  "https://user:password@example.com",
  "https://example.com/?a=b",
  "https://example.com/#a",
  "http://example.com",
  "http://127.0.0.1.example.com",
  "http://localhost.example.com",
  "http://10.0.0.1",
  "127.0.0.1:4200",
  "https://example.com/v1",
  "https://example.com/v1/",
])("%s is refused", (url) => expect(() => checkUrl(url, false)).toThrow(ConfigurationError));

test("http:// beyond loopback needs the caller's word", () => {
  expect(checkUrl("http://example.com", true)).toBe("http://example.com");
});

test.each([undefined, "", "with space", "line\nbreak", "snow☃man"])("token %j is refused and not quoted", (token) => {
  expect(() => checkToken(token)).toThrow(ConfigurationError);
  try {
    checkToken(token);
  } catch (error) {
    if (token) expect((error as Error).message).not.toContain(token);
  }
});
