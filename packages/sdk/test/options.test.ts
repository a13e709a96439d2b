import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { ConfigurationError, WeakSecretError } from "../src/errors.js";
import { Tacenda, generateSecret } from "../src/index.js";

const url = "http://127.0.0.1:1";
const token = "t";

beforeEach(() => {
  for (const name of ["URL", "TOKEN", "PROJECT", "SECRET"]) vi.stubEnv(`TACENDA_${name}`, undefined);
});
afterEach(() => vi.unstubAllEnvs());

test("everything can come from the environment, and options win", () => {
  vi.stubEnv("TACENDA_URL", url);
  vi.stubEnv("TACENDA_TOKEN", token);
  vi.stubEnv("TACENDA_PROJECT", "from-environment");
  vi.stubEnv("TACENDA_SECRET", generateSecret());
  expect(new Tacenda().getStore("s").project).toBe("from-environment");
  expect(new Tacenda({ project: "given" }).getStore("s").project).toBe("given");
  vi.stubEnv("TACENDA_SECRET", "weak");
  expect(() => new Tacenda().getStore("s")).toThrow(WeakSecretError);
  expect(() => new Tacenda().getStore("s", { secret: generateSecret() })).not.toThrow();
});

test("what is missing is named", () => {
  expect(() => new Tacenda({ token })).toThrow(/TACENDA_URL/);
  expect(() => new Tacenda({ url })).toThrow(/TACENDA_TOKEN/);
});

test("a missing secret is an error of the call, for calls may bring their own", async () => {
  const store = new Tacenda({ url, token }).getStore("s");
  await expect(store.getValue("k")).rejects.toThrow(/TACENDA_SECRET/);
  await expect(store.verify()).rejects.toThrow(/TACENDA_SECRET/);
});

test.each([
  { timeout: 0 },
  { timeout: Infinity },
  { maxAttempts: 0 },
  { maxAttempts: 1.5 },
  { derivedKeyCacheSize: -1 },
  { maxConcurrentDerivations: 0 },
  { project: "Not An Id" },
])("%j is refused", (options) => expect(() => new Tacenda({ url, token, ...options })).toThrow(ConfigurationError));

test.each(["", "UPPER", "-x", "a".repeat(64), "a/b", "..", 42])("%j is no store id", (id) => {
  expect(() => new Tacenda({ url, token }).getStore(id as string)).toThrow(ConfigurationError);
});

test.each([99_999, 10_000_001, NaN, 100_000.5, 0, -1])("%d iterations are refused", (iterations) => {
  expect(() => new Tacenda({ url, token }).getStore("s", { iterations })).toThrow(WeakSecretError);
});
