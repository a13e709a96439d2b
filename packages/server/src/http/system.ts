/** Handlers about the server and the caller: liveness, readiness, the OpenAPI document, who am I; spec/http.md § System. */

import type { WhoAmI } from "@tacenda/protocol";

import type { Call, Services } from "./call.js";
import { toHttpError } from "./failures.js";
import { HttpError } from "./http-error.js";
import { jsonReply, type Reply } from "./reply.js";

/** The process answers. */
export function live(): Reply {
  return jsonReply(200, { status: "live" });
}

/** The database and the key provider can be used; else 503. */
export async function ready(_call: Call, services: Services): Promise<Reply> {
  try {
    await services.checkReady();
  } catch (error) {
    throw toHttpError(error).code === "internal" ? new HttpError("overloaded", { cause: error }) : error;
  }
  return jsonReply(200, { status: "ready" });
}

export function openapi(_call: Call, services: Services): Reply {
  return { status: 200, headers: { "content-type": "application/json" }, body: services.openapi };
}

export function whoAmI({ principal }: Call): Reply {
  const { type, id, project, grants, expiresAt } = principal;
  return jsonReply(200, { type, id, project, grants: [...grants], expiresAt } satisfies WhoAmI);
}
