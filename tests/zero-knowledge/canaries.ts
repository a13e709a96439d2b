/** The canaries of one run: fresh, long, and full of characters that every encoding writes differently. */

import { randomBytes } from "node:crypto";

const random = () => randomBytes(15).toString("hex");

/** Text with two unlike halves, so that a leak of either is found. */
const text = () => `ä"\\${random()}/?&=% +${random()}\n€~`;
/** The same of visible ASCII: what fits into a header. */
const visible = () => `/"\\${random()}?&=%+${random()}~`;

export interface Canaries {
  secret: string;
  wrongSecret: string;
  key: string;
  value: string;
  metadata: string;
  rootToken: string;
  /** Part of ids, which allow little: lower case and digits. */
  project: string;
  store: string;
  /** What careless callers put where it does not belong: into paths, queries, headers and bodies. */
  stray: string;
}

export function freshCanaries(): Canaries {
  return {
    secret: `secret${text()}`,
    wrongSecret: `wrong${text()}`,
    key: `key${text()}`,
    value: `value${text()}`,
    metadata: `metadata${text()}`,
    rootToken: `root${visible()}`,
    project: `project-${random()}`,
    store: `store-${random()}`,
    stray: `stray${visible()}`,
  };
}
