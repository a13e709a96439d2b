/** A store as it should be: every key's versions and attributes, by the rules of spec/http.md § Records alone. */

import type { TacendaErrorCode } from "@tacenda/sdk";

/** Versions of a key that the stores of these trials keep. */
export const MAX_VERSIONS = 4;

interface Version {
  /** Null for a tombstone. */
  value: string | null;
  /** Milliseconds; 0 for never. */
  expiresAt: number;
  /** The key had expired while this was an earlier version of it: the server may have dropped it. */
  mayBeDropped: boolean;
}

interface Key {
  /** 0: it never existed. */
  version: number;
  versions: Map<number, Version>;
  protected: boolean;
  active: boolean;
}

/** What a call comes to: its result, or the code of its error. */
export type Outcome = { result: unknown } | { error: TacendaErrorCode };

export const result = (value: unknown): Outcome => ({ result: value });
export const refused = (error: TacendaErrorCode): Outcome => ({ error });

export class StoreModel {
  readonly #keys = new Map<string, Key>();

  set(key: string, value: string, expiresIn: number, ifVersion?: number): Outcome {
    const { version } = this.#key(key);
    if (ifVersion !== undefined && ifVersion !== version) return refused("conflict");
    return this.#write(key, value, expiresIn);
  }

  create(key: string, value: string, expiresIn: number): Outcome {
    return this.#live(key) === undefined ? this.#write(key, value, expiresIn) : refused("already_exists");
  }

  setMany(values: Readonly<Record<string, string>>): Outcome {
    const written = Object.entries(values).map(([key, value]) => [key, this.#write(key, value, 0)] as const);
    return result(new Map(written.map(([key, one]) => [key, "result" in one ? one.result : null])));
  }

  value(key: string): Outcome {
    return this.isInactive(key) ? refused("record_inactive") : result(this.#live(key)?.value ?? null);
  }

  entry(key: string): Outcome {
    const { version, versions, protected: isProtected } = this.#key(key);
    const current = versions.get(version);
    if (current === undefined) return result(null);
    if (this.isInactive(key)) return refused("record_inactive");
    const live = this.#live(key);
    if (live !== undefined) return result({ state: "live", version, value: live.value, protected: isProtected });
    return result({ state: current.value === null ? "deleted" : "expired", version, value: null, protected: null });
  }

  /** What may be read of a version. */
  valueOf(key: string, version: number): Outcome[] {
    if (this.isInactive(key)) return [refused("record_inactive")];
    const kept = this.#key(key).versions.get(version);
    if (kept === undefined || this.#isPast(this.#current(key)) || this.#isPast(kept)) return [result(null)];
    return [result(kept.value), ...(kept.mayBeDropped ? [result(null)] : [])];
  }

  /** The versions listed, the newest first; those that need not be are negative. */
  list(key: string): Outcome {
    if (this.isInactive(key)) return refused("record_inactive");
    const versions = [...this.#key(key).versions].toSorted(([a], [b]) => b - a);
    return result(versions.map(([version, { mayBeDropped }]) => (mayBeDropped ? -version : version)));
  }

  restore(key: string, version: number): Outcome {
    const [earlier] = this.valueOf(key, version);
    if (earlier !== undefined && "error" in earlier) return earlier;
    if (typeof earlier?.result !== "string") return refused("version_not_found");
    const expiresAt = this.#key(key).versions.get(version)?.expiresAt ?? 0;
    return this.#write(key, earlier.result, expiresAt === 0 ? 0 : expiresAt - Date.now());
  }

  remove(key: string, destroy: boolean): Outcome {
    const one = this.#key(key);
    if (one.version === 0) return result(null);
    if (!one.active) return refused("record_inactive");
    if (!destroy && this.#live(key) === undefined) return result(null);
    if (one.protected) return refused("record_protected");
    const written = this.#write(key, null, 0);
    if (destroy) dropBelow(one, one.version);
    return written;
  }

  setAttribute(key: string, name: "protected" | "active", value: boolean): Outcome {
    const one = this.#key(key);
    if (one.version === 0) return result(false);
    one[name] = value;
    return result(true);
  }

  isInactive(key: string): boolean {
    const { version, active } = this.#key(key);
    return version > 0 && !active;
  }

  mayBeDropped(key: string, version: number): boolean {
    return this.#key(key).versions.get(version)?.mayBeDropped ?? false;
  }

  /** To be called whenever the clock was set. */
  passTime(): void {
    for (const [key, { version, versions }] of this.#keys) {
      if (!this.#isPast(this.#current(key))) continue;
      for (const [number, one] of versions) if (number < version) one.mayBeDropped = true;
    }
  }

  /** The store was destroyed. */
  clear(): void {
    this.#keys.clear();
  }

  #key(key: string): Key {
    let one = this.#keys.get(key);
    if (one === undefined) {
      one = { version: 0, versions: new Map(), protected: false, active: true };
      this.#keys.set(key, one);
    }
    return one;
  }

  #current(key: string): Version | undefined {
    const { version, versions } = this.#key(key);
    return versions.get(version);
  }

  #live(key: string): Version | undefined {
    const current = this.#current(key);
    return current === undefined || current.value === null || this.#isPast(current) ? undefined : current;
  }

  #isPast(version: Version | undefined): boolean {
    return version !== undefined && version.expiresAt !== 0 && version.expiresAt <= Date.now();
  }

  #write(key: string, value: string | null, expiresIn: number): Outcome {
    const one = this.#key(key);
    one.version++;
    const expiresAt = expiresIn === 0 ? 0 : Date.now() + expiresIn;
    one.versions.set(one.version, { value, expiresAt, mayBeDropped: false });
    dropBelow(one, one.version - MAX_VERSIONS + 1);
    return result({ version: one.version });
  }
}

function dropBelow({ versions }: Key, keptFrom: number): void {
  for (const version of versions.keys()) if (version < keptFrom) versions.delete(version);
}
