/** Handlers of the secret check: a wrong secret is told from an absent key; spec/http.md § Secret check. */

import { timingSafeEqual } from "node:crypto";

import { HEADERS, SECRET_CHECK_BYTES, SECRET_CHECK_OFF } from "@tacenda/protocol";

import { isAuthorized } from "../auth/authorize.js";
import { StoreGoneError } from "../envelope/errors.js";
import type { SecretCheck } from "../storage/directory.js";
import type { Call, Services } from "./call.js";
import { HttpError } from "./http-error.js";
import { MAX_ATTEMPTS } from "./record-rules.js";
import { NO_CONTENT, type Reply } from "./reply.js";

/** Most checks of one store: two while its secret is being changed. */
const MAX_CHECKS = 2;

const OFF: Reply = { status: 204, headers: { [HEADERS.secretCheck]: SECRET_CHECK_OFF } };

/** What becomes of the registered checks, or what to answer instead of changing them. */
type Decision = readonly SecretCheck[] | "unchanged" | "mismatch";

/** `PUT S/secret-check`: compares 32 bytes, or registers them; 64 bytes add the second half beside the first. */
export async function putSecretCheck(call: Call, services: Services): Promise<Reply> {
  const checks = readChecks(call, 1, MAX_CHECKS);
  const store = await services.directory.getStore(call.project, call.store);
  if (store === null) throw new HttpError("not_found");
  if (store.secrets === "any") return OFF;
  const [known, added] = await blind(checks, call, services);
  const mayRegister = isAuthorized(call.principal, "write", call);
  return await change(call, services, (registered) => {
    if (known === undefined) return "mismatch";
    if (registered.length > 0) {
      // A client that still names a previous secret, after its check was removed.
      if (added !== undefined && includes(registered, added)) return "unchanged";
      if (!includes(registered, known)) return "mismatch";
      if (added === undefined) return "unchanged";
      if (registered.length === MAX_CHECKS) return "mismatch";
    }
    // Of two checks the first must have been registered before.
    if (!mayRegister || (registered.length === 0 && added !== undefined)) throw new HttpError("secret_unregistered");
    return [...registered, { digest: added ?? known, createdAt: services.now() }];
  });
}

/** `DELETE S/secret-check`: forgets the check that the body holds, or all of them. */
export async function deleteSecretCheck(call: Call, services: Services): Promise<Reply> {
  const checks = readChecks(call, 0, 1);
  if ((await services.directory.getStore(call.project, call.store)) === null) throw new HttpError("not_found");
  const [check] = await blind(checks, call, services);
  return await change(call, services, (registered) => {
    if (registered.length === 0) throw new HttpError("secret_unregistered");
    if (check === undefined) return [];
    if (!includes(registered, check)) return "mismatch";
    return registered.filter(({ digest }) => !timingSafeEqual(digest, check));
  });
}

/** The checks in a body, of which there are `fewest` to `most`. @throws {HttpError} `invalid_request` */
function readChecks({ body }: Call, fewest: number, most: number): Uint8Array[] {
  const count = body.length / SECRET_CHECK_BYTES;
  if (!Number.isInteger(count) || count < fewest || count > most) {
    const lengths = [fewest, most].map((number) => number * SECRET_CHECK_BYTES).join(" or ");
    throw new HttpError("invalid_request", { message: `The body must have ${lengths} bytes.` });
  }
  const places = Array.from({ length: count }, (_, index) => index * SECRET_CHECK_BYTES);
  return places.map((start) => body.subarray(start, start + SECRET_CHECK_BYTES));
}

async function blind(
  checks: readonly Uint8Array[],
  { project, store }: Call,
  { keys }: Services,
): Promise<Uint8Array[]> {
  const blinder = await keys.open(project, store);
  if (blinder === null) throw new StoreGoneError();
  return checks.map((check) => blinder.blindSecretCheck(check));
}

/** Decides again when the registered checks have changed in between, so that of several who register one is first. */
async function change(
  { project, store, principal }: Call,
  { directory, mismatches }: Services,
  decide: (registered: readonly SecretCheck[]) => Decision,
): Promise<Reply> {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const registered = await directory.secretChecks(project, store);
    // Nothing is awaited until the mismatch is noted, so that no number of requests at once gets more guesses.
    mismatches.refuseSpent(principal.id);
    const decision = decide(registered);
    if (decision === "mismatch") {
      mismatches.note(principal.id);
      throw new HttpError("secret_mismatch");
    }
    if (decision === "unchanged") return NO_CONTENT;
    if (await directory.replaceSecretChecks(project, store, registered, decision)) return NO_CONTENT;
  }
  throw new HttpError("overloaded");
}

/** Looks at every one, so that the time tells nothing. */
function includes(registered: readonly SecretCheck[], check: Uint8Array): boolean {
  return registered.filter(({ digest }) => timingSafeEqual(digest, check)).length > 0;
}
