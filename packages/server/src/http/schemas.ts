/** Shapes of JSON bodies, for checking requests and for the OpenAPI document; spec/http.md § JSON. */

import {
  DEFAULT_MAX_VERSIONS,
  HEAD_BYTES,
  ID_PATTERN,
  MAX_BATCH_OPERATIONS,
  MAX_MAX_VERSIONS,
  MAX_RECORD_BYTES,
  MAX_TIME,
  MAX_VERSION,
  PERMISSIONS,
  type ErrorCode,
  ERROR_STATUS,
} from "@tacenda/protocol";
import { z } from "zod";

const MAX_NAME_CHARACTERS = 100;
const MAX_GRANTS = 100;
const MAX_PATTERNS = 100;

/** An exact id, `*`, or `prefix*`. */
const STORE_PATTERN = /^(?:\*|[a-z0-9][a-z0-9_-]{0,62}\*?)$/;

const id = z.string().regex(ID_PATTERN, "must match ^[a-z0-9][a-z0-9_-]{0,62}$");
const time = z.int("must be milliseconds since the epoch").min(0).max(MAX_TIME);
const version = z.int().min(1).max(MAX_VERSION);
const secrets = z.enum(["one", "any"]);
const maxVersions = z.int().min(1).max(MAX_MAX_VERSIONS);

const grant = z
  .strictObject({
    stores: z.array(z.string().regex(STORE_PATTERN, "must be a store id, * or prefix*")).min(1).max(MAX_PATTERNS),
    permissions: z.array(z.enum(PERMISSIONS)).min(1).max(PERMISSIONS.length),
  })
  .refine(({ stores, permissions }) => !permissions.includes("manage") || stores.every((pattern) => pattern === "*"), {
    message: "manage is only granted on the store pattern *",
  });

const quota = z.int().min(0).nullable();
export const newProject = z.strictObject({
  id,
  maxStores: quota.default(null),
  maxTokens: quota.default(null),
  maxBytes: quota.default(null),
});
export const projectChange = z
  .strictObject({ maxStores: quota.optional(), maxTokens: quota.optional(), maxBytes: quota.optional() })
  .refine((change) => Object.keys(change).length > 0, { message: "must have maxStores, maxTokens or maxBytes" });
export const project = z.strictObject({ id, createdAt: time, maxStores: quota, maxTokens: quota, maxBytes: quota });
export const projectList = z.strictObject({ projects: z.array(project) });

export const newStore = z.strictObject({
  id,
  secrets: secrets.default("one"),
  maxVersions: maxVersions.default(DEFAULT_MAX_VERSIONS),
});
export const storeChange = z
  .strictObject({ secrets: secrets.optional(), maxVersions: maxVersions.optional() })
  .refine((change) => Object.keys(change).length > 0, { message: "must have secrets or maxVersions" });
export const store = z.strictObject({ id, secrets, maxVersions, createdAt: time });
export const storeList = z.strictObject({ stores: z.array(store) });

/** What every database keeps as it is: neither has room for half a character, and PostgreSQL none for U+0000. */
const tokenName = z
  .string()
  .min(1)
  .max(MAX_NAME_CHARACTERS)
  .refine((text) => text.isWellFormed() && !text.includes("\0"), {
    message: "must be well-formed text without U+0000",
  });

export const newToken = z.strictObject({
  name: tokenName,
  grants: z.array(grant).min(1).max(MAX_GRANTS),
  expiresAt: time.optional(),
});
const tokenInfo = z.strictObject({
  id: z.string(),
  name: z.string(),
  grants: z.array(grant),
  createdAt: time,
  expiresAt: time.nullable(),
  lastUsedAt: time.nullable(),
});
export const mintedToken = tokenInfo.extend({ token: z.string() });
export const tokenList = z.strictObject({ tokens: z.array(tokenInfo) });

export const whoAmI = z.strictObject({
  type: z.enum(["root", "token"]),
  id: z.string(),
  project: id.nullable(),
  grants: z.array(grant),
  expiresAt: time.nullable(),
});

export const versionList = z.strictObject({
  versions: z.array(z.strictObject({ version, createdAt: time, size: z.int().min(HEAD_BYTES).max(MAX_RECORD_BYTES) })),
});

export const attributes = z.strictObject({ protected: z.boolean(), active: z.boolean() });
export const attributesChange = z
  .strictObject({ protected: z.boolean().optional(), active: z.boolean().optional() })
  .refine((change) => Object.keys(change).length > 0, { message: "must have protected or active" });

export const status = z.strictObject({ status: z.string() });
export const anyObject = z.looseObject({});

const currentVersion = z.strictObject({ version, head: z.string().length(Math.ceil((HEAD_BYTES * 4) / 3)) });

/** The one canonical form of 32 bytes: the last character's two unused bits are zero. */
const key = z
  .string()
  .regex(/^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/, "must be a key hash, 43 characters of canonical base64url");

/** 1 to 256 operations, each on another key hash. Nothing in a longer list is looked at, as the test of it shows. */
function operations<Item extends z.ZodType<{ key: string }>>(item: Item) {
  return z
    .array(item)
    .min(1)
    .max(MAX_BATCH_OPERATIONS)
    .refine((list) => new Set(list.map((operation) => operation.key)).size === list.length, {
      message: "must name each key once",
    });
}

export const batchRead = z.strictObject({ key, version: version.optional() });
export const batchWrite = z.strictObject({
  key,
  expect: z
    .int()
    .min(0)
    .max(MAX_VERSION - 1),
  record: z.string(),
  purge: z.literal("earlier").optional(),
});
export const batchRequest = z
  .strictObject({ reads: operations(batchRead).optional(), writes: operations(batchWrite).optional() })
  .refine(({ reads, writes }) => (reads === undefined) !== (writes === undefined), {
    message: "must have either reads or writes",
  });
const batchReadResult = z.discriminatedUnion("status", [
  z.strictObject({
    status: z.literal("record"),
    version,
    record: z.string(),
    createdAt: time,
    protected: z.boolean(),
  }),
  z.strictObject({ status: z.literal("expired"), current: currentVersion }),
  z.strictObject({ status: z.enum(["absent", "inactive", "damaged", "fetch_singly"]) }),
]);
export const batchAnswer = z.strictObject({
  results: z.union([z.array(batchReadResult), z.array(z.strictObject({ version }))]),
});

const masterVersion = z.int().min(1).max(0xffff_ffff);
const providerId = z.string().min(1).max(512);
const masterKey = z.strictObject({ provider: providerId, masterVersion });
const reencryption = z.strictObject({
  project: id,
  store: id,
  progress: z.number().min(0).max(1),
  damaged: z.boolean(),
  begunAt: time,
  endedAt: time.nullable(),
});

export const nothing = z.strictObject({});
export const masterKeyQuery = z.strictObject({ provider: providerId.optional(), version: masterVersion });
export const migration = z.strictObject({ to: providerId });
export const masterKeyRef = masterKey;
export const keyStatus = z.strictObject({
  providers: z.array(
    z.strictObject({
      id: providerId,
      configured: z.boolean(),
      active: z.boolean(),
      health: z.enum(["ok", "unavailable", "refused"]),
      message: z.string().optional(),
      currentVersion: masterVersion.nullable(),
      versions: z.array(
        z.strictObject({
          version: masterVersion,
          createdAt: time.nullable(),
          state: z.enum(["enabled", "retired", "destroyed", "damaged"]).nullable(),
          wraps: z.int().min(0),
        }),
      ),
    }),
  ),
  outdatedWraps: z.int().min(0),
  nextRotation: time.nullable(),
  reencryptions: z.array(reencryption),
  failure: z.string().nullable(),
});
const purpose = z.enum(["index", "data"]);
export const storeKeyStatus = z.strictObject({
  keys: z.array(
    masterKey.extend({ purpose, version: masterVersion, state: z.enum(["active", "retired"]), createdAt: time }),
  ),
  reencryption: reencryption.nullable(),
});
export const dataKeyRotation = z.strictObject({ reencrypt: z.boolean().default(false) });
export const receipt = z.strictObject({
  destroyed: z.string(),
  at: time,
  keys: z.array(masterKey.extend({ purpose, version: masterVersion }).partial()),
  stillOpenedBy: z.array(z.string()),
});

export const errorBody = z.strictObject({
  error: z.strictObject({
    code: z.enum(Object.keys(ERROR_STATUS) as [ErrorCode, ...ErrorCode[]]),
    message: z.string(),
    requestId: z.string(),
    current: currentVersion.nullable().optional(),
    conflicts: z.array(z.strictObject({ index: z.int().min(0), current: currentVersion.nullable() })).optional(),
  }),
});
