/** Values, versions, deletion and expiry: what the SDK does end to end against a real server. */

import { ensure, equal, failing, pattern, pause } from "../check.ts";
import type { Case } from "../context.ts";

export const valueCases: Case[] = [
  {
    name: "a value comes back, to this client and to a fresh one",
    async run({ store }) {
      const first = store();
      equal(await first.getValue("github:42"), null);
      equal(await first.setValue("github:42", "ghp_example"), { version: 1 });
      equal(await first.getValue("github:42"), "ghp_example");
      equal(await store().getValue("github:42"), "ghp_example");
    },
  },
  {
    name: "text comes back code point by code point, under keys of any script",
    async run({ store }) {
      const texts = ["", "\ufeff\0a\0🔑", "é", "e\u0301", "\r\n\u2028"];
      for (const text of texts) await store().setValue(`text:${text}`, text);
      for (const text of texts) equal(await store().getValue(`text:${text}`), text);
    },
  },
  {
    name: "bytes come back as bytes, and asked for as text they are an error",
    async run({ store }) {
      await store().setValue("bytes", pattern(1_000));
      equal(await store().getBytes("bytes"), pattern(1_000));
      await failing("not_text", () => store().getValue("bytes"));
      await store().setValue("bytes", "é");
      equal(await store().getBytes("bytes"), Uint8Array.of(0xc3, 0xa9));
    },
  },
  {
    name: "1 MiB comes back, and one byte more is refused",
    async run({ store }) {
      const value = pattern(1_048_576);
      await store().setValue("long", value);
      const read = await store().getBytes("long");
      ensure(read?.length === value.length && read.every((byte, index) => byte === value[index]), "other bytes");
      await failing("value_too_large", () => store().setValue("long", "x".repeat(1_048_577)));
    },
  },
  {
    name: "an entry tells its metadata and times",
    async run({ store }) {
      const before = Date.now() - 1;
      await store().setValue("entry", "v", { metadata: { scope: ["repo"], n: 1 } });
      const entry = await store().getEntry("entry");
      ensure(entry?.state === "live", "not live");
      equal([entry.value, entry.version, entry.expiresAt, entry.metadata], ["v", 1, null, { scope: ["repo"], n: 1 }]);
      // Headers of the answer: a browser shows them only if the server exposes them.
      equal([entry.claimed.protected, entry.claimed.active], [false, true]);
      ensure(entry.claimed.createdAt !== null, "no time of creation");
      ensure(
        entry.sealedAt.getTime() >= before && entry.sealedAt.getTime() <= Date.now() + 1,
        "sealed at another time",
      );
    },
  },
  {
    name: "writers that know nothing of each other write one version after the other",
    async run({ store }) {
      const [first, second] = [store(), store()];
      equal(await first.setValue("v", "1"), { version: 1 });
      equal(await second.setValue("v", "2"), { version: 2 });
      equal(await first.setValue("v", "3"), { version: 3 });
      equal(await second.getValue("v"), "3");
    },
  },
  {
    name: "ifVersion and createValue write only where they may",
    async run({ store }) {
      equal(await store().setValue("cas", "1", { ifVersion: 0 }), { version: 1 });
      equal(await store().setValue("cas", "2", { ifVersion: 1 }), { version: 2 });
      const conflict = await failing("conflict", () => store().setValue("cas", "x", { ifVersion: 1 }));
      equal((conflict as { currentVersion?: number }).currentVersion, 2);
      await failing("already_exists", () => store().createValue("cas", "x"));
      equal(await store().createValue("created", "1"), { version: 1 });
      equal(await store().getValue("cas"), "2");
    },
  },
  {
    name: "what is deleted is proved to be, and can be restored; what is destroyed cannot",
    async run({ store }) {
      const mine = store();
      await mine.setValue("gone", "kept");
      equal(await mine.deleteValue("gone"), { version: 2 });
      equal(await mine.getValue("gone"), null);
      equal((await store().getEntry("gone"))?.state, "deleted");
      equal(
        (await store().listVersions("gone")).map(({ version }) => version),
        [2, 1],
      );
      equal(await store().getValue("gone", { version: 1 }), "kept");
      equal(await mine.restoreVersion("gone", 1), { version: 3 });
      equal(await store().getValue("gone"), "kept");
      equal(await mine.destroyValue("gone"), { version: 4 });
      equal((await mine.getEntry("gone"))?.state, "deleted");
      await failing("version_not_found", () => mine.restoreVersion("gone", 1));
      equal(await mine.createValue("gone", "again"), { version: 5 });
    },
  },
  {
    name: "what has expired is proved to have",
    async run({ store }) {
      await store().setValue("brief", "v", { expiresIn: 1_500 });
      equal(await store().getValue("brief"), "v");
      await pause(1_600);
      equal(await store().getValue("brief"), null);
      equal((await store().getEntry("brief"))?.state, "expired");
    },
  },
  {
    name: "attributes are set; what is protected is not deleted",
    async run({ store }) {
      await store().setValue("kept", "v");
      equal(await store().setProtected("kept", true), true);
      await failing("record_protected", () => store().deleteValue("kept"));
      equal(await store().setActive("kept", false), true);
      await failing("record_inactive", () => store().getValue("kept"));
    },
  },
  {
    name: "a stale value in the cache is asked for and not sent again",
    async run({ store }) {
      const statuses: number[] = [];
      const recording: typeof fetch = async (input, init) => {
        const answer = await fetch(input, init);
        statuses.push(answer.status);
        return answer;
      };
      const caching = store({ cache: { ttl: 40 }, fetch: recording });
      await caching.setValue("cached", "v");
      equal(await caching.getValue("cached"), "v");
      statuses.length = 0;
      await pause(60);
      equal(await caching.getValue("cached"), "v");
      equal(statuses, [304]);
    },
  },
  {
    name: 'stretch "store" derives the same keys in every client',
    async run({ openStore }) {
      await openStore({ stretch: "store" }).setValue("stretched", "s");
      equal(await openStore({ stretch: "store" }).getValue("stretched"), "s");
      equal(await openStore({}).getValue("stretched"), null);
    },
  },
  {
    name: "many values in one request, absent ones and bytes among them",
    async run({ store }) {
      const values = Array.from({ length: 20 }, (_, index): [string, string] => [`bulk:${index}`, `value ${index}`]);
      const written = await store().setValues([...values, ["bulk:bytes", pattern(10)]]);
      equal(
        [...written.values()].map(({ version }) => version),
        Array.from({ length: 21 }, () => 1),
      );
      const keys = values.map(([key]) => key);
      equal([...(await store().getValues([...keys, "bulk:absent"]))], [...values, ["bulk:absent", null]]);
      await failing("not_text", () => store().getValues(["bulk:bytes"]));
      const collected = await store().getValues(["bulk:bytes", "bulk:0"], { onError: "collect" });
      equal(collected.get("bulk:0"), "value 0");
      equal((collected.get("bulk:bytes") as { code?: string }).code, "not_text");
      await failing("value_too_large", () => store().setValues({ "bulk:0": "w", "bulk:1": "x".repeat(1_048_577) }));
      equal(await store().getValue("bulk:0"), "value 0");
    },
  },
  {
    name: "many cold keys at once, and many callers of one",
    async run({ store }) {
      const keys = Array.from({ length: 12 }, (_, index) => `many:${index}`);
      const mine = store();
      await Promise.all(keys.map((key) => mine.setValue(key, key)));
      const fresh = store({ maxConcurrentDerivations: 12 });
      equal(await Promise.all([...keys, ...keys].map((key) => fresh.getValue(key))), [...keys, ...keys]);
      const versions = await Promise.all(
        Array.from({ length: 8 }, async (_, index) => (await mine.setValue("race", `${index}`)).version),
      );
      equal(
        versions.sort((a, b) => a - b),
        [1, 2, 3, 4, 5, 6, 7, 8],
      );
    },
  },
];
