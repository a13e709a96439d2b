/** Who is calling and what its grants allow; spec/http.md § Authorization. */

import type { Grant, Permission } from "@tacenda/protocol";

/** An authenticated caller. */
export interface Principal {
  readonly type: "root" | "token";
  /** A token's public id, or `root`. Safe to log. */
  readonly id: string;
  /** The one project a token belongs to; null for root, which is of no project. */
  readonly project: string | null;
  readonly grants: readonly Grant[];
  /** Milliseconds since the epoch, or null for never. */
  readonly expiresAt: number | null;
}

/** Who holds the root token. It may do everything. */
export const ROOT: Principal = { type: "root", id: "root", project: null, grants: [], expiresAt: null };

/** Who calls a public route: nothing is allowed to it. */
export const NOBODY: Principal = { type: "token", id: "", project: null, grants: [], expiresAt: null };

/** Whether a store pattern (an exact id, `*`, or `prefix*`) names `store`. */
function matchesStore(pattern: string, store: string): boolean {
  return pattern.endsWith("*") ? store.startsWith(pattern.slice(0, -1)) : pattern === store;
}

/** Whether the grants make their holder the administrator of their project. */
export function grantsManage(grants: readonly Grant[]): boolean {
  return grants.some((grant) => grant.permissions.includes("manage"));
}

/** Whether the grants allow `permission` on `store`. `manage` implies the other three. */
export function grantsAllow(grants: readonly Grant[], permission: Permission, store: string): boolean {
  return grants.some(
    (grant) =>
      grant.permissions.includes("manage") ||
      (grant.permissions.includes(permission) && grant.stores.some((pattern) => matchesStore(pattern, store))),
  );
}
