/** Secrets that do not show, secrets that are generated, the environment, and the end of a client. */

import { Tacenda, generateSecret } from "@tacenda/sdk";

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
      for (const object of [tacenda, store, error, unreachable]) {
        const texts = [
          `${object as unknown as string}`,
          JSON.stringify(object),
          ...inspects.map((inspect) => inspect(object)),
        ];
        if (object instanceof Error) texts.push(object.message, object.stack ?? "", String(object.cause));
        for (const canary of [plan.secret, plan.readerToken, plan.token, key, value]) {
          ensure(!texts.some((text) => text.includes(canary)), `${object.constructor.name} shows a canary`);
        }
      }
    },
  },
  {
    name: "generated secrets are whole, different, and taken; a mistyped one is not",
    async run({ openStore }) {
      const secrets = Array.from({ length: 100 }, () => generateSecret());
      equal(new Set(secrets).size, 100);
      ensure(
        secrets.every((secret) => /^tcs_[0-9A-Za-z]{49}$/.test(secret)),
        "another form",
      );
      const [secret = ""] = secrets;
      await openStore({ secret }).setValue("generated", "v");
      equal(await openStore({ secret }).getValue("generated"), "v");
      await failing("weak_secret", () => openStore({ secret: secret.slice(0, -1) }));
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
