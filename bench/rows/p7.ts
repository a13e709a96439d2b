/** P7: the server's GET. */

import type { Plan, RowResult } from "../measure.ts";
import { compareServers } from "./servers.ts";

export function p7(plan: Plan): Promise<RowResult> {
  return compareServers(plan, { row: "P7", method: "GET", target: 0.6 });
}
