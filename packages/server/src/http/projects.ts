/** Handlers of projects; spec/http.md § Projects. Only root gets here. */

import type { z } from "zod";

import type { Call, Services } from "./call.js";
import { HttpError } from "./http-error.js";
import { NO_CONTENT, jsonReply, type Reply } from "./reply.js";
import type { newProject } from "./schemas.js";

export async function createProject(
  _call: Call,
  { directory, now }: Services,
  { id }: z.output<typeof newProject>,
): Promise<Reply> {
  const project = { id, createdAt: now() };
  refuseTaken(await directory.createProject(project));
  return jsonReply(201, project);
}

export async function listProjects(_call: Call, { directory }: Services): Promise<Reply> {
  return jsonReply(200, { projects: await directory.listProjects() });
}

/** Destroys the project with its stores, their keys and its tokens, and purges their rows in the background. */
export async function destroyProject({ project }: Call, services: Services): Promise<Reply> {
  if (!(await services.directory.destroyProject(project, services.now()))) throw new HttpError("not_found");
  services.forgetTokens();
  services.keys.forgetProject(project);
  services.purgeDestroyed();
  await services.scrub();
  return NO_CONTENT;
}

/** @throws {HttpError} `already_exists` or `id_retired` unless something was created. */
export function refuseTaken(result: "created" | "exists" | "retired"): void {
  if (result === "exists") throw new HttpError("already_exists");
  if (result === "retired") throw new HttpError("id_retired");
}
