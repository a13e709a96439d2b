/** The ids of the stores that the suite uses. */

/** The store in which all runtimes read each other's values. */
export const SHARED_STORE = "shared";

/** A runtime's own store. */
export function storeOf(runtime: string): string {
  return `of-${runtime}`;
}

/** A runtime's store whose secret changes. */
export function changingStoreOf(runtime: string): string {
  return `of-${runtime}-changing`;
}

/** A runtime's store with `secrets: "any"`. */
export function openStoreOf(runtime: string): string {
  return `of-${runtime}-any`;
}
