/** Handlers of stores; spec/http.md § Stores. No answer holds a count or a size of records. */

import type { StoreSettings } from "@tacenda/protocol";
import type { z } from "zod";

import { createStoreWithKeys } from "../envelope/new-store.js";
import { storeReceipt } from "../keys/receipts.js";
import type { Call, Services } from "./call.js";
import { HttpError } from "./http-error.js";
import { refuseTaken } from "./projects.js";
import { jsonReply, type Reply } from "./reply.js";
import type { newStore, storeChange } from "./schemas.js";

export async function createStore(
  { project }: Call,
  { directory, keys, now }: Services,
  { id, secrets, maxVersions }: z.output<typeof newStore>,
): Promise<Reply> {
  const store = { id, secrets, maxVersions, createdAt: now() };
  const result = await createStoreWithKeys(directory, keys, project, store);
  if (result === "no_project") throw new HttpError("not_found");
  if (result === "stale_key") throw new HttpError("overloaded");
  refuseTaken(result);
  return jsonReply(201, store);
}

export async function listStores({ project }: Call, { directory }: Services): Promise<Reply> {
  const stores = await directory.listStores(project);
  if (stores === null) throw new HttpError("not_found");
  return jsonReply(200, { stores });
}

export async function getStore({ project, store: id }: Call, { directory }: Services): Promise<Reply> {
  const store = await directory.getStore(project, id);
  if (store === null) throw new HttpError("not_found");
  return jsonReply(200, store);
}

export async function changeStore(
  { project, store: id }: Call,
  { directory }: Services,
  { secrets, maxVersions }: z.output<typeof storeChange>,
): Promise<Reply> {
  const change: Partial<StoreSettings> = {};
  if (secrets !== undefined) change.secrets = secrets;
  if (maxVersions !== undefined) change.maxVersions = maxVersions;
  const store = await directory.updateStore(project, id, change);
  if (store === null) throw new HttpError("not_found");
  return jsonReply(200, store);
}

/** Destroys the store's keys at once and purges its rows in the background. */
export async function destroyStore({ project, store, principal }: Call, services: Services): Promise<Reply> {
  const now = services.now();
  const keys = await services.directory.destroyStore(project, store, now);
  if (keys === null) throw new HttpError("not_found");
  services.keys.forget(project, store);
  services.purgeDestroyed();
  await services.scrub();
  return jsonReply(200, storeReceipt({ project, store }, keys, now, { named: principal.type === "root" }));
}
