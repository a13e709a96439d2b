/** Which version of the HTTP interface a program speaks, and what becomes of one that meets another; spec/http.md § Versions. */

export interface ProtocolVersion {
  /** As in `/v1`. */
  readonly major: number;
  /** Grows with every route, field of a request and error code that is new. */
  readonly minor: number;
}

export const PROTOCOL_VERSION: ProtocolVersion = { major: 1, minor: 0 };

export function formatProtocolVersion({ major, minor }: ProtocolVersion): string {
  return `${major}.${minor}`;
}

/** Null when the text is no version. */
export function parseProtocolVersion(text: string | null): ProtocolVersion | null {
  const [, major, minor] = /^([1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})$/.exec(text ?? "") ?? [];
  return major === undefined || minor === undefined ? null : { major: Number(major), minor: Number(minor) };
}

/** Below zero when `a` is the older one, above when it is the newer. */
export function compareProtocolVersions(a: ProtocolVersion, b: ProtocolVersion): number {
  return a.major - b.major || a.minor - b.minor;
}
