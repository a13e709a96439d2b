/** P3: repeated reads of one key through the SDK, against a server in its own process, over bare ky GETs of the same bytes. */

import { Tacenda } from "@tacenda/sdk";
import ky from "ky";

import { SECRET, STORE, VALUE, requireValue } from "../fixture.ts";
import { type Plan, type RowResult, compare, interleave, ratio, roundsOf, timed } from "../measure.ts";
import type { ServerHandlers, Target } from "../processes/contender.ts";
import { startProcess } from "../processes/parent.ts";
import { summarize } from "../stats.ts";

const READS = 100;
const WARM_UPS = 5;

export async function p3(plan: Plan): Promise<RowResult> {
  const server = startProcess<ServerHandlers>("tacenda.ts");
  try {
    const rounds = roundsOf(plan, 60, 10);
    const target = await server.ask("target", null);
    const { store, url } = await writeOne(target);
    const bare = ky.create({ headers: { authorization: `Bearer ${target.token}` }, retry: 0, timeout: false });
    const { sdk, bareGet } = await interleave(rounds, WARM_UPS, {
      sdk: () => timed(() => repeat(async () => requireValue(await store.getValue("one")))),
      bareGet: () => timed(() => repeat(() => bare(url).bytes())),
    });
    const each = (samples: readonly number[]) => ((summarize(samples).median * 1000) / READS).toFixed(0);
    return {
      measures: [
        {
          row: "P3",
          what: `${READS} reads of one key, over bare ky GETs`,
          unit: "×",
          ours: compare(sdk, bareGet, ratio),
          target: { bound: "at most", value: 1.5 },
        },
      ],
      notes: [`P3: a read took ${each(sdk)} µs through the SDK, ${each(bareGet)} µs by bare ky.`],
    };
  } finally {
    await server.stop();
  }
}

/** The store with one key in it, and the URL at which its record is. */
async function writeOne({ url, token }: Target) {
  let last = "";
  const listen = (input: string | URL | Request, init?: RequestInit) => {
    if (input instanceof Request && input.method === "PUT") last = input.url;
    return fetch(input, init);
  };
  const secret = SECRET;
  await new Tacenda({ url, token, fetch: listen }).getStore(STORE, { secret }).setValue("one", VALUE);
  return { store: new Tacenda({ url, token }).getStore(STORE, { secret }), url: last };
}

async function repeat(read: () => Promise<unknown>): Promise<void> {
  for (let index = 0; index < READS; index++) await read();
}
