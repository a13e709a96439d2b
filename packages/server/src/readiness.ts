/** Asks the database and the key provider whether they can be used, but not once per caller; spec/http.md § System. */

import { HttpError } from "./http/http-error.js";

/** An answer is given again for this long, because anyone may ask and key providers cost time and money. */
const KEPT_MILLISECONDS = 1_000;
const TIMEOUT_MILLISECONDS = 5_000;

/** A function that resolves when all `checks` do, within 5 s, and rejects with what the first of them threw. */
export function createReadiness(checks: readonly (() => Promise<void>)[]): () => Promise<void> {
  // Times of the process's own clock: the system's may be set back, and would keep an old answer for as long.
  let asked = -Infinity;
  let answer = Promise.resolve();
  return () => {
    const now = performance.now();
    if (now - asked >= KEPT_MILLISECONDS) {
      asked = now;
      answer = withTimeout(Promise.all(checks.map((check) => check())));
    }
    return answer;
  };
}

async function withTimeout(work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new HttpError("overloaded")), TIMEOUT_MILLISECONDS);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
