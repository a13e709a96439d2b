/** The one point of authorization: every decision about who may do what is made here; spec/http.md § Authorization. */

import type { Permission } from "@tacenda/protocol";

import { HttpError } from "../http/http-error.js";
import { grantsAllow, grantsManage, type Principal } from "./principal.js";

/** What a route needs: a permission, one of two, `root`, or (`any`) no more than a token that is good. */
export type Requirement = Permission | "read or write" | "root" | "any";

/** What a request is about, as it stands in its path. Nothing of it has been looked up. */
export interface Target {
  project?: string | undefined;
  store?: string | undefined;
}

/**
 * Returns when `principal` may do what `requirement` says to `target`. It looks nothing up, so that no answer tells
 * whether something exists to one who may not know.
 *
 * @throws {HttpError} `not_found` when the target is another's project, `permission_denied` within one's own.
 */
export function authorize(principal: Principal, requirement: Requirement, target: Target): void {
  if (principal.type === "root") return;
  if (target.project !== undefined && target.project !== principal.project) throw new HttpError("not_found");
  if (!isAllowed(principal, requirement, target.store)) throw new HttpError("permission_denied");
}

/** Whether `principal`, who was authorized for the project, may do on the store what a permission allows. */
export function isAuthorized(principal: Principal, permission: Permission, { store }: Target): boolean {
  return principal.type === "root" || isAllowed(principal, permission, store);
}

function isAllowed(principal: Principal, requirement: Requirement, store: string | undefined): boolean {
  switch (requirement) {
    case "any":
      return true;
    case "root":
      return false;
    case "manage":
      return grantsManage(principal.grants);
    case "read or write":
      return isAllowed(principal, "read", store) || isAllowed(principal, "write", store);
    case "read":
    case "write":
    case "delete":
      return store !== undefined && grantsAllow(principal.grants, requirement, store);
  }
}
