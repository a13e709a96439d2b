/** What does not show, the environment, and the end of a client. */

import { Tacenda } from "@tacenda/sdk";

import { ensure, equal, failing } from "../check.ts";
import type { Case } from "../context.ts";

/** How runtimes show objects on their consoles. */
type Inspect = (value: unknown, options?: object) => string;

export const hygieneCases: Case[] = [
  {
    name: "clients, stores and errors show no secret, token, key or value",
    async run({ plan, client }) {
      const tacenda = client({ secret: plan.secret, token: plan.readerToken });
      const store = tacenda.getStore(`of-${plan.runtime}`);
      const [key, value] = ["canary-key-3f9c", "canary-value-81d2"];
      const error = await failing("permission_denied", () => store.setValue(key, value));
      const broken = client({ url: plan.closedUrl, maxAttempts: 1 }).getStore("s", { secret: plan.secret });
      const unreachable = await failing("server_unreachable", () => broken.setValue(key, value));
      equal(
        JSON.stringify([tacenda, store]),
        JSON.stringify([{ project: "default" }, { project: "default", store: store.id }]),
      );
      const inspects = consoleFormats();
      const objects: Record<string, unknown> = { tacenda, store, error, unreachable };
      for (const [name, object] of Object.entries(objects)) {
        const texts = [String(object), JSON.stringify(object), ...inspects.map((inspect) => inspect(object))];
        if (object instanceof Error) texts.push(object.message, object.stack ?? "", String(object.cause));
        for (const canary of [plan.secret, plan.readerToken, plan.token, key, value]) {
          ensure(!texts.some((text) => text.includes(canary)), `${name} shows a canary`);
        }
      }
    },
  },
  {
    name: "the environment, where there is one",
    async run({ plan, store }) {
      if (!plan.hasEnvironment) {
        await failing("configuration", () => new Tacenda());
        const nameless = new Tacenda({ url: plan.url, token: plan.token }).getStore(store().id);
        await failing("configuration", () => nameless.getValue("k"));
        return;
      }
      await store().setValue("from the environment", "v");
      equal(await new Tacenda().getStore(store().id).getValue("from the environment"), "v");
    },
  },
  {
    name: "verify passes; a closed client derives anew; await using closes",
    async run({ client, store, plan }) {
      await store().verify();
      let closed: Tacenda;
      {
        await using tacenda = client();
        closed = tacenda;
        await tacenda.getStore(store().id, { secret: plan.secret }).setValue("disposed", "v");
      }
      equal(typeof closed[Symbol.asyncDispose], "function");
      equal(await closed.getStore(store().id, { secret: plan.secret }).getValue("disposed"), "v");
      closed.close();
    },
  },
];

/** Every way in which this runtime shows objects, hidden properties included. */
function consoleFormats(): Inspect[] {
  const { process, Deno, Bun } = globalThis as {
    process?: { getBuiltinModule?: (name: string) => { inspect: Inspect } | undefined };
    Deno?: { inspect: Inspect };
    Bun?: { inspect: Inspect };
  };
  const inspects = [process?.getBuiltinModule?.("node:util")?.inspect, Deno?.inspect, Bun?.inspect];
  return inspects
    .filter((inspect) => inspect !== undefined)
    .map((inspect) => (value) => inspect(value, { depth: 20, showHidden: true }));
}
