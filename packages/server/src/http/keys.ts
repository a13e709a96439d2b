/** Handlers of keys; spec/http.md § Keys. Only root gets here. */

import type { z } from "zod";

import type { Call, Services } from "./call.js";
import { HttpError } from "./http-error.js";
import { jsonReply, type Reply } from "./reply.js";
import type { dataKeyRotation, masterKeyQuery, migration } from "./schemas.js";

export async function keyStatus(_call: Call, { keyAdministration }: Services): Promise<Reply> {
  return jsonReply(200, await keyAdministration.status());
}

export async function rotateMasterKey(_call: Call, { keyAdministration }: Services): Promise<Reply> {
  return jsonReply(202, await keyAdministration.rotate());
}

export async function migrateKeys(
  _call: Call,
  { keyAdministration }: Services,
  { to }: z.output<typeof migration>,
): Promise<Reply> {
  return jsonReply(202, await keyAdministration.migrate(to));
}

export async function retireMasterKey(
  _call: Call,
  { keyAdministration }: Services,
  query: z.output<typeof masterKeyQuery>,
): Promise<Reply> {
  return jsonReply(200, await keyAdministration.retire(query));
}

export async function reinstateMasterKey(
  _call: Call,
  { keyAdministration }: Services,
  query: z.output<typeof masterKeyQuery>,
): Promise<Reply> {
  return jsonReply(200, await keyAdministration.reinstate(query));
}

export async function destroyMasterKey(
  _call: Call,
  { keyAdministration }: Services,
  query: z.output<typeof masterKeyQuery>,
): Promise<Reply> {
  return jsonReply(200, await keyAdministration.destroy(query));
}

export async function storeKeys(call: Call, services: Services): Promise<Reply> {
  return await storeStatus(200, call, services);
}

export async function rotateDataKey(
  call: Call,
  services: Services,
  { reencrypt }: z.output<typeof dataKeyRotation>,
): Promise<Reply> {
  if ((await services.keyAdministration.rotateDataKey(call)) === null) throw new HttpError("not_found");
  if (reencrypt) await services.keyAdministration.reencrypt(call);
  return await storeStatus(200, call, services);
}

export async function reencryptStore(call: Call, services: Services): Promise<Reply> {
  if (!(await services.keyAdministration.reencrypt(call))) throw new HttpError("not_found");
  return await storeStatus(202, call, services);
}

async function storeStatus(status: 200 | 202, call: Call, { keyAdministration }: Services): Promise<Reply> {
  const answer = await keyAdministration.ofStore(call);
  if (answer === null) throw new HttpError("not_found");
  return jsonReply(status, answer);
}
