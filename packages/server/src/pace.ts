/** How background work leaves room for requests: between its steps it rests as long as the last one took. */

import { setTimeout as sleep } from "node:timers/promises";

/** Resolves when as much time has passed as since `started`, of `performance.now()`: then half of it is for others. */
export async function restAfter(started: number): Promise<void> {
  await sleep(performance.now() - started);
}
