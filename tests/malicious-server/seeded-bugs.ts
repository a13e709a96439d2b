/** The bugs that this suite must catch, as edits of the SDK's sources: each takes one defence away, or breaks it. */

import type { Edit } from "../seeded-server.js";

export interface SeededBug {
  name: string;
  edits: readonly Edit[];
}

/** A line that is left out. */
const without = (find: string): Edit => ({ find, replace: "" });

export const SEEDED_BUGS: readonly SeededBug[] = [
  {
    name: "no commitment check on records",
    edits: [
      {
        find: 'if (!equalBytes(commitment, head.commitment)) return "record_open";\n  const payload',
        replace: "void commitment;\n  const payload",
      },
    ],
  },
  {
    name: "no commitment check on heads",
    edits: [
      {
        find: 'if (!equalBytes(commitment, head.commitment)) return "record_open";\n  const { state, expiresAt } = head;',
        replace: "void commitment;\n  const { state, expiresAt } = head;",
      },
    ],
  },
  { name: "key hash not in the seal", edits: [without("    keys.keyHash,\n    u64(place.version),")].map(keepVersion) },
  { name: "version not in the seal", edits: [without("    u64(place.version),\n")] },
  { name: "project not in the seal", edits: [without("    lp(utf8(place.project)),\n")] },
  { name: "store not in the seal", edits: [without("    lp(utf8(place.storeId)),\n")] },
  { name: "state not in the seal", edits: [without("    u8(state),\n    u64(expiresAt),\n  );")].map(keepExpiry) },
  {
    name: "expiry not in the seal",
    edits: [{ find: "    u8(state),\n    u64(expiresAt),\n  );", replace: "    u8(state),\n  );" }],
  },
  {
    name: "lengths not prefixed in the seal",
    edits: [
      {
        find: "    lp(utf8(place.project)),\n    lp(utf8(place.storeId)),\n    keys",
        replace: "    utf8(place.project),\n    utf8(place.storeId),\n    keys",
      },
    ],
  },
  {
    name: "tombstones believed unopened",
    edits: [
      {
        find: 'if (!equalBytes(commitment, head.commitment)) return "record_open";\n  const payload = decrypt(encKey, nonce, context, record.subarray(HEAD_BYTES));',
        replace:
          'const empty = { kind: 0, sealedAt: 0, metadata: new Uint8Array(0), value: new Uint8Array(0), text: "", metadataObject: {} } as const;\n' +
          '  if (head.state === 0 && !equalBytes(commitment, head.commitment)) return "record_open";\n' +
          "  const payload = head.state === 0 ? decrypt(encKey, nonce, context, record.subarray(HEAD_BYTES)) : empty;",
      },
    ],
  },
  {
    name: "what failed to decrypt has an error of its own",
    edits: [
      {
        find: 'if (payload === null) return "record_open";',
        replace: 'if (payload === null) return "unsupported_format";',
      },
    ],
  },
  {
    name: "tombstones may hold a value",
    edits: [without('  if (head.state !== RecordState.value && !isEmpty(payload)) return "record_open";\n')],
  },
  {
    name: "padding not checked",
    edits: [without("  if (bytes.subarray(end).some((byte) => byte !== 0)) return null;\n")],
  },
  {
    name: "padding of any length",
    edits: [{ find: " || bytes.length !== paddedLength(end)) return null;", replace: ") return null;" }],
  },
  {
    name: "kind not checked",
    edits: [{ find: "(kind !== ValueKind.text && kind !== ValueKind.bytes) || sealedAt", replace: "sealedAt" }],
  },
  {
    name: "marks compare numbers only",
    edits: [
      {
        find: "return mark?.version !== seen.version || equalBytes(mark.commitment, seen.commitment);",
        replace: "void mark; void seen; return true;",
      },
    ],
  },
  {
    name: "marks judge by what is known when the answer comes",
    edits: [
      {
        find: "if (mark !== undefined && isRollback(mark, seen)) throw rollback(mark, seen.version);",
        replace:
          "const now = await this.mark(keys);\n    if (now !== undefined && isRollback(now, seen)) throw rollback(now, seen.version);\n    void mark;",
      },
    ],
  },
  {
    name: "older versions accepted",
    edits: [
      { find: "(seen.version < mark.version || !isSameOrOther(mark, seen))", replace: "!isSameOrOther(mark, seen)" },
    ],
  },
  {
    name: "absence after a mark is null",
    edits: [{ find: "if (mark !== undefined) throw rollback(mark, 0);\n      return null;", replace: "return null;" }],
  },
  {
    name: "a conflict with nothing after a mark is believed",
    edits: [without("    if (unverified === null && mark !== undefined) throw rollback(mark, 0);\n")],
  },
  {
    name: "version to write from a conflict that was not verified",
    edits: [
      {
        find: "unverified === null ? null : await this.#verifyHead(keys, mark, unverified);",
        replace:
          "unverified === null ? null : { version: unverified.version, state: 0 as const, expiresAt: 0, commitment: unverified.bytes };",
      },
    ],
  },
  {
    name: "an acknowledgement from below the mark is believed",
    edits: [without("    if (mark !== undefined && version <= mark.version) throw rollback(mark, version - 1);\n")],
  },
  {
    name: "no entity tag checked on an acknowledgement",
    edits: [{ find: 'if (answer.headers.get("etag") === versionTag(version)) return', replace: "return" }],
  },
  {
    name: "another version than the one asked for is accepted",
    edits: [{ find: "if (answer.version !== version) throw", replace: "if (answer.version < 1) throw" }],
  },
  {
    name: "every expired head is believed to have expired",
    edits: [{ find: "head.expiresAt !== 0 && head.expiresAt <= Date.now() + CLOCK_SKEW", replace: "head.version > 0" }],
  },
  {
    name: "own clock not asked about expiry",
    edits: [{ find: "return expiresAt !== 0 && expiresAt <= Date.now();", replace: "void expiresAt; return false;" }],
  },
  {
    name: "plaintext when a record does not open",
    edits: [
      {
        find: "const record = requireVerified(openRecord(keys, this.#place(answer.version), answer.bytes));",
        replace:
          "const opened = openRecord(keys, this.#place(answer.version), answer.bytes);\n" +
          "    const text = new TextDecoder().decode(answer.bytes);\n" +
          '    const record = typeof opened === "object" ? opened : { version: answer.version, state: 0 as const, expiresAt: 0,\n' +
          "      commitment: new Uint8Array(32), payload: { kind: 0 as const, sealedAt: 0, metadata: new Uint8Array(0),\n" +
          "      value: answer.bytes, text, metadataObject: {} } };",
      },
    ],
  },
  {
    name: "a record that does not open is asked for again",
    edits: [
      {
        find: "const record = requireVerified(openRecord(keys, this.#place(answer.version), answer.bytes));",
        replace:
          "let opened = openRecord(keys, this.#place(answer.version), answer.bytes);\n" +
          '    if (typeof opened === "string") {\n' +
          "      const again = await this.#api.read(this.#address(keys), options);\n" +
          '      if (again.kind === "record") opened = openRecord(keys, this.#place(again.version), again.bytes);\n' +
          "    }\n" +
          "    const record = requireVerified(opened);",
      },
    ],
  },
  {
    name: "a write in doubt is sealed again",
    edits: [
      {
        find: "const { current: inTheWay, resent } = answer;",
        replace: "const { current: inTheWay } = answer;\n    const resent = false;",
      },
    ],
  },
  {
    name: "a batch in doubt is sealed again",
    edits: [
      {
        find: "await inDoubt(answer.resent, async () => {",
        replace: "await inDoubt(false, async () => {",
      },
    ],
  },
  {
    name: "results of a batch not counted",
    edits: [{ find: "Array.isArray(results) && results.length === reads.length", replace: "Array.isArray(results)" }],
  },
  {
    name: "versions of a batch's acknowledgement not compared",
    edits: [
      { find: "records.every(({ version }, index) => version === versions[index])", replace: "records.length > 0" },
    ],
  },
  { name: "redirects followed", edits: [{ find: 'redirect: "manual",', replace: 'redirect: "follow",' }] },
  { name: "bodies of any length", edits: [without("      if (length > maxBytes) return null;\n")] },
  {
    name: "reading a body has no timeout",
    edits: [{ find: "await orAborted(reader.read(), signal)", replace: "await reader.read()" }],
  },
  {
    name: "the network's own error thrown on",
    edits: [
      {
        find: "const reason = networkReason(error);",
        replace: "throw error;\n      const reason = networkReason(error);",
      },
    ],
  },
  {
    name: "the server's words in an error",
    edits: [
      {
        find: "return KNOWN_ERRORS[error.code]({ ...details, ...requestIdOf(error.requestId) });",
        replace:
          "const known = KNOWN_ERRORS[error.code]({ ...details, ...requestIdOf(error.requestId) });\n  known.message += error.message;\n  return known;",
      },
    ],
  },
  {
    name: "any current version believed to be a number",
    edits: [
      {
        find: 'typeof version === "number" && Number.isSafeInteger(version) && version >= 1 && bytes?.length === HEAD_BYTES',
        replace: "bytes?.length === HEAD_BYTES",
      },
      { find: "return { version, bytes };", replace: "return { version: version as number, bytes };" },
    ],
  },
];

function keepVersion({ find }: Edit): Edit {
  return { find, replace: "    u64(place.version)," };
}

function keepExpiry({ find }: Edit): Edit {
  return { find, replace: "    u64(expiresAt),\n  );" };
}
