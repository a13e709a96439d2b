/** Failures: each is an error of its own kind, never null, and none is waited for longer than asked. */

import { TacendaError, generateSecret } from "@tacenda/sdk";

import { ensure, equal, failing, pause, thrownBy } from "../check.ts";
import type { Case } from "../context.ts";

/** Milliseconds within which calls that end early must be back; a machine may be busy. */
const SOON = 4_000;
/** Milliseconds that clients of a silent server have, unless a call has fewer. */
const PATIENCE = 6_000;

export const failureCases: Case[] = [
  {
    name: "a bad token, a lacking permission and an unknown store",
    async run({ plan, client, store }) {
      await failing("token_refused", () => store({ token: "nonsense" }).getValue("k"));
      const reader = store({ token: plan.readerToken });
      await reader.verify();
      const denied = await failing("permission_denied", () => reader.setValue("k", "v"));
      ensure(denied.requestId !== undefined, "no request id");
      const nowhere = client().getStore("nowhere", { secret: plan.secret });
      for (const call of [() => nowhere.getValue("k"), () => nowhere.setValue("k", "v"), () => nowhere.verify()]) {
        await failing("store_not_found", call);
      }
    },
  },
  {
    name: "no server",
    async run({ plan, store }) {
      for (const maxAttempts of [1, 3]) {
        const unreachable = store({ url: plan.closedUrl, maxAttempts });
        const error = await failing("server_unreachable", () => unreachable.getValue("k"));
        equal([error.retryable, TacendaError.is(error, "server_unreachable") && error.mayHaveHappened], [true, false]);
        await failing("server_unreachable", () => unreachable.setValue("k", "v"));
      }
    },
  },
  {
    name: "a redirect is refused, even to the right server",
    async run({ plan, store }) {
      await store().setValue("redirected", "v");
      const redirected = store({ url: plan.redirectingUrl });
      await failing("protocol", () => redirected.getValue("redirected"));
      await failing("protocol", () => redirected.setValue("redirected", "w"));
      equal(await store().getValue("redirected"), "v");
    },
  },
  {
    name: "an answer without end is not read to its end",
    async run({ plan, store }) {
      const start = performance.now();
      await failing("protocol", () => store({ url: plan.endlessUrl }).getValue("k"));
      ensure(performance.now() - start < SOON, "too late");
    },
  },
  {
    name: "a timeout, of the client or of one call",
    async run({ plan, store }) {
      const start = performance.now();
      const silent = store({ url: plan.silentUrl, timeout: PATIENCE });
      await failing("request_timeout", () => store({ url: plan.silentUrl, timeout: 300 }).getValue("k"));
      await failing("request_timeout", () => silent.getValue("k", { timeout: 300 }));
      await failing("request_timeout", () => silent.setValue("k", "v", { timeout: 300 }));
      ensure(performance.now() - start < SOON, "too late");
    },
  },
  {
    name: "a write whose answer does not come may have happened",
    async run({ plan, store }) {
      const losing: typeof fetch = (input, init) => {
        const request = new Request(input, init);
        if (request.method !== "PUT" || !request.url.includes("/records/")) return fetch(request);
        return fetch(plan.silentUrl, { signal: request.signal });
      };
      const error = await failing("request_timeout", () =>
        store({ fetch: losing }).setValue("lost", "v", { timeout: 1_000 }),
      );
      equal(TacendaError.is(error, "request_timeout") && error.mayHaveHappened, true);
    },
  },
  {
    name: "an abort, before and while waiting, with the caller's own reason",
    async run({ plan, store }) {
      const reason = new Error("the caller's own");
      equal((await thrownBy(() => store().getValue("k", { signal: AbortSignal.abort(reason) }))) === reason, true);
      const controller = new AbortController();
      const silent = store({ url: plan.silentUrl, timeout: PATIENCE });
      const start = performance.now();
      const aborted = thrownBy(() => silent.getValue("k", { signal: controller.signal }));
      await pause(300);
      controller.abort(reason);
      equal((await aborted) === reason, true);
      ensure(performance.now() - start < SOON, "too late");
      const timedOut = await thrownBy(() => silent.setValue("k", "v", { signal: AbortSignal.timeout(300) }));
      equal((timedOut as DOMException).name, "TimeoutError");
    },
  },
  {
    name: "where a runtime refuses many iterations that is a typed error, and soon",
    async run({ openStore }) {
      const patient = openStore({ iterations: 600_000 });
      await patient.setValue("iterations", "v");
      await refusingIterations(async (refusals) => {
        const start = performance.now();
        await failing("configuration", () => openStore({ iterations: 600_000 }).getValue("iterations"));
        // The pure derivation would take seconds.
        ensure(performance.now() - start < 1_000, "a detour");
        ensure(refusals() > 0, "the runtime was not asked to derive");
        equal(await openStore({ iterations: 100_000 }).getValue("iterations"), null);
      });
      equal(await patient.getValue("iterations"), "v");
      await failing("weak_secret", () => openStore({ iterations: 99_999 }));
    },
  },
  {
    name: "a record sealed under another secret does not open, nor does one of another key",
    async run({ plan, client, store }) {
      await store().setValue("swapped", "v");
      const path = await recordPath(plan.url, (fetch) => store({ fetch }).getValue("swapped"));
      const swapping: typeof fetch = (input, init) => {
        const request = new Request(input, init);
        if (!request.url.includes("/records/")) return fetch(request);
        return fetch(new Request(`${plan.url}${path}`, { headers: request.headers, signal: request.signal }));
      };
      const error = await failing("record_open", () => store({ fetch: swapping }).getValue("another key"));
      const stranger = client({ fetch: swapping }).getStore(`of-${plan.runtime}`, { secret: generateSecret() });
      const other = await failing("record_open", () => stranger.getValue("swapped"));
      equal(error.message, other.message);
    },
  },
];

/** The path under which the server keeps what `read` asks for. */
async function recordPath(url: string, read: (fetching: typeof fetch) => Promise<unknown>): Promise<string> {
  let path = "";
  await read((input, init) => {
    const asked = new Request(input, init).url;
    if (asked.includes("/records/")) path = asked.slice(url.length);
    return fetch(input, init);
  });
  return path;
}

/**
 * Refuses derivations above 100,000 iterations while `work` runs, as Cloudflare does in production; workerd itself has no
 * such limit.
 */
async function refusingIterations(work: (refusals: () => number) => Promise<void>): Promise<void> {
  const { subtle } = crypto;
  let count = 0;
  const deriveBits = (algorithm: Pbkdf2Params, key: CryptoKey, length: number): Promise<ArrayBuffer> => {
    if (algorithm.iterations <= 100_000) return SubtleCrypto.prototype.deriveBits.call(subtle, algorithm, key, length);
    count++;
    return Promise.reject(new DOMException("Pbkdf2 failed: iteration counts above 100000", "NotSupportedError"));
  };
  Object.defineProperty(subtle, "deriveBits", { value: deriveBits, configurable: true });
  try {
    await work(() => count);
  } finally {
    Reflect.deleteProperty(subtle, "deriveBits");
  }
}
