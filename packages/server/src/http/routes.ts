/** Every route of the server as data: method, path, what it needs, what it takes, who answers; spec/http.md § Routes. */

import { MAX_BATCH_BYTES, MAX_JSON_BODY_BYTES, MAX_RECORD_BYTES, SECRET_CHECK_BYTES } from "@tacenda/protocol";
import type { z } from "zod";

import type { Requirement } from "../auth/authorize.js";
import { batch } from "./batch.js";
import type { Handler } from "./call.js";
import { withJson } from "./json.js";
import {
  destroyMasterKey,
  keyStatus,
  migrateKeys,
  reencryptStore,
  reinstateMasterKey,
  retireMasterKey,
  rotateDataKey,
  rotateMasterKey,
  storeKeys,
} from "./keys.js";
import { changeProject, createProject, destroyProject, listProjects } from "./projects.js";
import { getRecord, listVersions, patchRecord, putRecord } from "./records.js";
import * as schemas from "./schemas.js";
import { deleteSecretCheck, putSecretCheck } from "./secret-check.js";
import { changeStore, createStore, destroyStore, getStore, listStores } from "./stores.js";
import { live, openapi, ready, whoAmI } from "./system.js";
import { createToken, deleteToken, listTokens } from "./tokens.js";

/** What a route answers on success: a JSON shape, the bytes of a record, or nothing. */
export type Answer = z.ZodType | "record" | "empty";

export interface Route {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Path template; logs and metrics hold it instead of the path. */
  readonly path: string;
  /** `public` needs no token. */
  readonly permission: Requirement | "public";
  readonly body: "none" | "json" | "bytes" | "optional bytes";
  /** Most bytes of the body. */
  readonly cap: number;
  /** The query parameters it knows; any other is refused. */
  readonly query: readonly string[];
  readonly summary: string;
  /** Shape of the JSON body, when it takes one. */
  readonly request?: z.ZodType;
  readonly answers: Readonly<Record<number, Answer>>;
  readonly handler: Handler;
}

const ADMIN_KEYS = "/v1/admin/keys";
const PROJECTS = "/v1/projects";
const PROJECT = `${PROJECTS}/:project`;
const STORES = `${PROJECT}/stores`;
const STORE = `${STORES}/:store`;
const TOKENS = `${PROJECT}/tokens`;
const RECORD = `${STORE}/records/:hash`;
const SECRET_CHECK = `${STORE}/secret-check`;

const NO_BODY = { body: "none", cap: 0, query: [] } as const;
const JSON_BODY = { body: "json", cap: MAX_JSON_BODY_BYTES, query: [] } as const;
const RECORD_BODY = { body: "bytes", cap: MAX_RECORD_BYTES, query: ["purge"] } as const;

/** The whole surface of the server. None of it lists, counts or searches records. */
export const ROUTES: readonly Route[] = [
  {
    method: "GET",
    path: "/livez",
    permission: "public",
    ...NO_BODY,
    summary: "Whether the process answers",
    answers: { 200: schemas.status },
    handler: live,
  },
  {
    method: "GET",
    path: "/readyz",
    permission: "public",
    ...NO_BODY,
    summary: "Whether the database and the key provider can be used",
    answers: { 200: schemas.status },
    handler: ready,
  },
  {
    method: "GET",
    path: "/v1/openapi.json",
    permission: "public",
    ...NO_BODY,
    summary: "This document",
    answers: { 200: schemas.anyObject },
    handler: openapi,
  },
  {
    method: "GET",
    path: "/v1/token",
    permission: "any",
    ...NO_BODY,
    summary: "Who the token is",
    answers: { 200: schemas.whoAmI },
    handler: whoAmI,
  },
  {
    method: "GET",
    path: ADMIN_KEYS,
    permission: "root",
    ...NO_BODY,
    summary: "The state of master keys, their providers and the work on them",
    answers: { 200: schemas.keyStatus },
    handler: keyStatus,
  },
  {
    method: "POST",
    path: `${ADMIN_KEYS}/rotate`,
    permission: "root",
    ...JSON_BODY,
    summary: "Make a new master key, and wrap every store key under it in the background",
    answers: { 202: schemas.masterKeyRef },
    ...withJson(schemas.nothing, rotateMasterKey),
  },
  {
    method: "POST",
    path: `${ADMIN_KEYS}/migrate`,
    permission: "root",
    ...JSON_BODY,
    summary: "Make another key provider wrap every store key, in the background",
    answers: { 202: schemas.masterKeyRef },
    ...withJson(schemas.migration, migrateKeys),
  },
  {
    method: "POST",
    path: `${ADMIN_KEYS}/retire`,
    permission: "root",
    ...JSON_BODY,
    summary: "Retire a master-key version that nothing refers to",
    answers: { 200: schemas.masterKeyRef },
    ...withJson(schemas.masterKeyQuery, retireMasterKey),
  },
  {
    method: "POST",
    path: `${ADMIN_KEYS}/reinstate`,
    permission: "root",
    ...JSON_BODY,
    summary: "Take back the retirement of a master-key version",
    answers: { 200: schemas.masterKeyRef },
    ...withJson(schemas.masterKeyQuery, reinstateMasterKey),
  },
  {
    method: "POST",
    path: `${ADMIN_KEYS}/destroy`,
    permission: "root",
    ...JSON_BODY,
    summary: "Destroy a retired master-key version for good",
    answers: { 200: schemas.receipt },
    ...withJson(schemas.masterKeyQuery, destroyMasterKey),
  },
  {
    method: "POST",
    path: PROJECTS,
    permission: "root",
    ...JSON_BODY,
    summary: "Create a project",
    answers: { 201: schemas.project },
    ...withJson(schemas.newProject, createProject),
  },
  {
    method: "GET",
    path: PROJECTS,
    permission: "root",
    ...NO_BODY,
    summary: "List the projects",
    answers: { 200: schemas.projectList },
    handler: listProjects,
  },
  {
    method: "PATCH",
    path: PROJECT,
    permission: "root",
    ...JSON_BODY,
    summary: "Change a project's quotas",
    answers: { 200: schemas.project },
    ...withJson(schemas.projectChange, changeProject),
  },
  {
    method: "DELETE",
    path: PROJECT,
    permission: "root",
    ...NO_BODY,
    summary: "Destroy a project with its stores and tokens",
    answers: { 204: "empty" },
    handler: destroyProject,
  },
  {
    method: "POST",
    path: STORES,
    permission: "manage",
    ...JSON_BODY,
    summary: "Create a store",
    answers: { 201: schemas.store },
    ...withJson(schemas.newStore, createStore),
  },
  {
    method: "GET",
    path: STORES,
    permission: "manage",
    ...NO_BODY,
    summary: "List the project's stores",
    answers: { 200: schemas.storeList },
    handler: listStores,
  },
  {
    method: "GET",
    path: STORE,
    permission: "manage",
    ...NO_BODY,
    summary: "Read a store's settings",
    answers: { 200: schemas.store },
    handler: getStore,
  },
  {
    method: "PATCH",
    path: STORE,
    permission: "manage",
    ...JSON_BODY,
    summary: "Change a store's settings",
    answers: { 200: schemas.store },
    ...withJson(schemas.storeChange, changeStore),
  },
  {
    method: "DELETE",
    path: STORE,
    permission: "manage",
    ...NO_BODY,
    summary: "Destroy a store: its keys at once, its rows in the background",
    answers: { 200: schemas.receipt },
    handler: destroyStore,
  },
  {
    method: "GET",
    path: `${STORE}/keys`,
    permission: "root",
    ...NO_BODY,
    summary: "The state of a store's keys",
    answers: { 200: schemas.storeKeyStatus },
    handler: storeKeys,
  },
  {
    method: "POST",
    path: `${STORE}/keys/rotate`,
    permission: "root",
    ...JSON_BODY,
    summary: "Give a store a new data key for new writes, and have the rest re-encrypted if asked",
    answers: { 200: schemas.storeKeyStatus },
    ...withJson(schemas.dataKeyRotation, rotateDataKey),
  },
  {
    method: "POST",
    path: `${STORE}/keys/reencrypt`,
    permission: "root",
    ...JSON_BODY,
    summary: "Encrypt all that a store holds under its newest data key, in the background",
    answers: { 202: schemas.storeKeyStatus },
    ...withJson(schemas.nothing, reencryptStore),
  },
  {
    method: "POST",
    path: TOKENS,
    permission: "manage",
    ...JSON_BODY,
    summary: "Mint a token; it is shown this once",
    answers: { 201: schemas.mintedToken },
    ...withJson(schemas.newToken, createToken),
  },
  {
    method: "GET",
    path: TOKENS,
    permission: "manage",
    ...NO_BODY,
    summary: "List the project's tokens, without their texts",
    answers: { 200: schemas.tokenList },
    handler: listTokens,
  },
  {
    method: "DELETE",
    path: `${TOKENS}/:token`,
    permission: "manage",
    ...NO_BODY,
    summary: "Delete a token and every token minted with it",
    answers: { 204: "empty" },
    handler: deleteToken,
  },
  {
    method: "GET",
    path: RECORD,
    permission: "read",
    ...NO_BODY,
    query: ["version"],
    summary: "Read a sealed record",
    answers: { 200: "record", 304: "empty" },
    handler: getRecord,
  },
  {
    method: "PUT",
    path: RECORD,
    permission: "write",
    ...RECORD_BODY,
    summary: "Write the version after the expected one",
    answers: { 200: "empty", 201: "empty" },
    handler: putRecord,
  },
  {
    method: "PATCH",
    path: RECORD,
    permission: "write",
    ...JSON_BODY,
    summary: "Protect, unprotect, activate or deactivate a record",
    answers: { 200: schemas.attributes },
    ...withJson(schemas.attributesChange, patchRecord),
  },
  {
    method: "GET",
    path: `${RECORD}/versions`,
    permission: "read",
    ...NO_BODY,
    summary: "List the versions kept of one record",
    answers: { 200: schemas.versionList },
    handler: listVersions,
  },
  {
    method: "POST",
    path: `${STORE}/batch`,
    permission: "read or write",
    ...JSON_BODY,
    cap: MAX_BATCH_BYTES,
    summary: "Read many records, or write many: all or none",
    answers: { 200: schemas.batchAnswer },
    ...withJson(schemas.batchRequest, batch),
  },
  {
    method: "PUT",
    path: SECRET_CHECK,
    permission: "read or write",
    body: "bytes",
    cap: 2 * SECRET_CHECK_BYTES,
    query: [],
    summary: "Compare a secret's check with the registered ones, or register it",
    answers: { 204: "empty" },
    handler: putSecretCheck,
  },
  {
    method: "DELETE",
    path: SECRET_CHECK,
    permission: "manage",
    body: "optional bytes",
    cap: SECRET_CHECK_BYTES,
    query: [],
    summary: "Forget one registered check, or all of them",
    answers: { 204: "empty" },
    handler: deleteSecretCheck,
  },
];
