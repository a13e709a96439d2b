/** Attacks on the exchange itself: redirects, endless bodies, words that the client might repeat; spec/http.md § Transport. */

import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

import { MAX_RECORD_BYTES } from "@tacenda/protocol";
import { expect } from "vitest";

import type { Snapshot } from "../adversary.js";
import type { Arena, Attack } from "../arena.js";
import { altered, broken, endless, error, stalled } from "../mutators.js";
import { within } from "../within.js";
import { always, refused, scene } from "./scene.js";

export const TRANSPORT_ATTACKS: readonly Attack[] = [
  {
    name: "T21 a redirect",
    async run(arena) {
      let requestsMeant = 0;
      let requestsLured = 0;
      const lure = createServer((_, response) => {
        requestsLured++;
        const { status, headers, bytes } = error(404, "record_not_found");
        response.writeHead(status, Object.fromEntries(headers)).end(bytes);
      });
      await once(lure.listen(0, "127.0.0.1"), "listening");
      const lureUrl = urlOf(lure);
      const server = createServer((request, response) => {
        requestsMeant++;
        response.writeHead(307, { location: lureUrl + (request.url ?? "") }).end();
      });
      await once(server.listen(0, "127.0.0.1"), "listening");
      try {
        const { secret } = arena.world;
        const client = new arena.sdk.Tacenda({ url: urlOf(server), token: "t", secret, timeout: 2_000 });
        const outcome = await client
          .getStore("s")
          .getValue("k")
          .catch((reason: unknown) => reason);
        expect(outcome).toMatchObject(refused("protocol"));
        expect(requestsMeant).toBeGreaterThan(0);
        expect(requestsLured).toBe(0);
      } finally {
        lure.close();
        server.close();
      }
    },
  },
  {
    name: "T21 a body without an end",
    async run(arena) {
      const { key, fresh } = await scene(arena);
      const count = { pulled: 0 };
      always(arena, () => endless(33_554_432, count));
      await expect(fresh.getValue(key)).rejects.toMatchObject(refused("protocol"));
      expect(count.pulled).toBeLessThan(2 * MAX_RECORD_BYTES);
    },
  },
  {
    name: "T21 a body that never comes",
    async run(arena) {
      const { key, fresh } = await scene(arena);
      always(arena, stalled);
      const read = within(2_000, fresh.getValue(key, { timeout: 30 }));
      await expect(read).rejects.toMatchObject(refused("request_timeout"));
    },
  },
  {
    name: "T21 no answer",
    async run(arena) {
      const { key, fresh } = await scene(arena);
      always(arena, () => new Promise<never>(() => undefined));
      const read = within(2_000, fresh.getValue(key, { timeout: 30 }));
      await expect(read).rejects.toMatchObject(refused("request_timeout"));
    },
  },
  {
    name: "T21 the token in the network's error, and in the server's",
    async run(arena) {
      const { key, store } = await scene(arena);
      const { token } = arena.world;
      const hostile = (code: string, status: number): Snapshot =>
        altered(error(status, code), {
          bytes: Buffer.from(JSON.stringify({ error: { code, message: token, requestId: token, current: token } })),
        });
      for (const answer of [
        hostile("permission_denied", 403),
        hostile("internal", 500),
        hostile("version_conflict", 412),
      ]) {
        always(arena, () => answer);
        await expectSilent(arena, store.getValue(key));
        await expectSilent(arena, store.setValue(key, "2"));
      }
      always(arena, (sent) => {
        throw broken(sent);
      });
      await expectSilent(arena, store.getValue(key));
    },
  },
];

/** The call fails with a typed error, in which the token is nowhere. */
async function expectSilent(arena: Arena, call: Promise<unknown>): Promise<void> {
  const outcome = await call.catch((reason: unknown) => reason);
  expect(arena.sdk.TacendaError.is(outcome)).toBe(true);
  const failure = outcome as Error;
  const told = `${failure.message} ${failure.stack ?? ""} ${JSON.stringify(failure)} ${String(failure.cause)}`;
  expect(told.includes(arena.world.token)).toBe(false);
}

function urlOf(server: ReturnType<typeof createServer>): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
