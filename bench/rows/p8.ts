/** P8: the server's PUT, durable. */

import type { Plan, RowResult } from "../measure.ts";
import { compareServers } from "./servers.ts";

export function p8(plan: Plan): Promise<RowResult> {
  return compareServers(plan, { row: "P8", method: "PUT", target: 0.4 });
}
