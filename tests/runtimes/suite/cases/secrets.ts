/** Secrets: wrong ones, generated ones, and those that change. */

import { Tacenda, generateSecret } from "@tacenda/sdk";

import { ensure, equal, failing } from "../check.ts";
import type { Case } from "../context.ts";
import { changingStoreOf } from "../stores.ts";

export const secretCases: Case[] = [
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
    name: "a wrong secret is told from an absent key, and writes nothing",
    async run({ client, store }) {
      await store().setValue("guarded", "v");
      const stranger = () => client().getStore(store().id, { secret: generateSecret() });
      await failing("wrong_secret", () => stranger().getValue("guarded"));
      await failing("wrong_secret", () => stranger().setValue("guarded", "w"));
      equal(
        await store()
          .getEntry("guarded")
          .then((entry) => entry?.version),
        1,
      );
    },
  },
  {
    name: "a secret is changed, by reading and in bulk",
    async run({ plan }) {
      const [old, current] = [generateSecret(), generateSecret()];
      const open = (secret: string | { current: string; previous: string[] }) =>
        new Tacenda({ url: plan.url, token: plan.token }).getStore(changingStoreOf(plan.runtime), { secret });
      const keys = ["a", "b", "c"];
      for (const key of keys) await open(old).setValue(key, `value of ${key}`);
      const changing = () => open({ current, previous: [old] });
      equal(await changing().getValue("a"), "value of a");
      equal(await changing().migrateSecret([...keys, "never"]), { done: 4, moved: 2, already: 1, absent: 1 });
      for (const key of keys) equal(await open(current).getValue(key), `value of ${key}`);
      await failing("secret_rotated", () => open(old).getValue("a"));
      await failing("secret_rotated", () => open(old).setValue("b", "unseen"));
    },
  },
];
