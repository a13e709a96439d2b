/** Handlers of projects; spec/http.md § Projects. Only root gets here. */

import type { Project } from "@tacenda/protocol";
import type { z } from "zod";

import type { Call, Services } from "./call.js";
import { HttpError } from "./http-error.js";
import { NO_CONTENT, jsonReply, type Reply } from "./reply.js";
import type { newProject, projectChange } from "./schemas.js";

export async function createProject(
  _call: Call,
  { directory, now, quotas }: Services,
  project: z.output<typeof newProject>,
): Promise<Reply> {
  const made: Project = { ...project, createdAt: now() };
  refuseTaken(await directory.createProject(made));
  if (made.maxBytes !== null) await quotas.refresh();
  return jsonReply(201, made);
}

/** Changes quotas. One that is lower than what there is refuses only what would be more. */
export async function changeProject(
  { project }: Call,
  { directory, quotas }: Services,
  { maxStores, maxTokens, maxBytes }: z.output<typeof projectChange>,
): Promise<Reply> {
  const changed = await directory.updateProject(project, {
    ...(maxStores !== undefined && { maxStores }),
    ...(maxTokens !== undefined && { maxTokens }),
    ...(maxBytes !== undefined && { maxBytes }),
  });
  if (changed === null) throw new HttpError("not_found");
  if (maxBytes !== undefined) await quotas.refresh();
  return jsonReply(200, changed);
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

/** @throws {HttpError} `already_exists`, `id_retired` or `quota_exceeded` unless something was created. */
export function refuseTaken(result: "created" | "exists" | "retired" | "over_quota"): void {
  if (result === "exists") throw new HttpError("already_exists");
  if (result === "retired") throw new HttpError("id_retired");
  if (result === "over_quota") throw new HttpError("quota_exceeded");
}
