/** A fresh process that makes one call, its first, and then measures the unit. */

import { VALUE, memoryStore, requireValue } from "../fixture.ts";
import { timed } from "../measure.ts";
import { MemoryServer } from "../memory-server.ts";
import { summarize } from "../stats.ts";
import { timeUnit } from "../unit.ts";
import { answerParent } from "./child.ts";

const UNITS = 5;

export interface FirstCall {
  call: "setValue" | "getValue";
  key: string;
  secret: string;
  /** What the in-memory server holds already. */
  records: Map<string, Uint8Array<ArrayBuffer>>;
}

const handlers = {
  /** How many units the call took. */
  async firstCall({ call, key, secret, records }: FirstCall): Promise<number> {
    const store = memoryStore(new MemoryServer(records).fetch, secret);
    const milliseconds = await timed(async () => {
      if (call === "setValue") await store.setValue(key, VALUE);
      else requireValue(await store.getValue(key));
    });
    const units: number[] = [];
    for (let index = 0; index < UNITS; index++) units.push(await timeUnit());
    return milliseconds / summarize(units).median;
  },
};

export type FirstCallHandlers = typeof handlers;
answerParent(handlers);
