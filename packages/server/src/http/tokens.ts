/** Handlers of tokens; spec/http.md § Tokens. */

import type { MintedToken, TokenInfo } from "@tacenda/protocol";
import type { z } from "zod";

import type { Principal } from "../auth/principal.js";
import { newToken } from "../auth/tokens.js";
import type { KeptToken, TokenRow } from "../storage/directory.js";
import type { Call, Services } from "./call.js";
import { HttpError } from "./http-error.js";
import { NO_CONTENT, jsonReply, type Reply } from "./reply.js";
import type { newToken as newTokenSchema } from "./schemas.js";

/**
 * Mints a token. Its minter has `manage`, which implies every permission in the project, so no grant can exceed it;
 * what is left to bound is the time.
 */
export async function createToken(
  { principal, project }: Call,
  { directory, now }: Services,
  { name, grants, expiresAt }: z.output<typeof newTokenSchema>,
): Promise<Reply> {
  const token = newToken();
  const createdAt = now();
  const row: TokenRow = {
    id: token.id,
    project,
    name,
    digest: token.digest,
    grants,
    createdAt,
    expiresAt: boundedExpiry(principal, expiresAt, createdAt),
    mintedBy: principal.type === "root" ? null : principal.id,
  };
  const result = await directory.createToken(row);
  if (result === "gone") throw new HttpError("not_found");
  if (result === "over_quota") throw new HttpError("quota_exceeded");
  return jsonReply(201, { ...describe({ ...row, lastUsedAt: null }), token: token.text } satisfies MintedToken);
}

export async function listTokens({ project }: Call, { directory }: Services): Promise<Reply> {
  const tokens = await directory.listTokens(project);
  if (tokens === null) throw new HttpError("not_found");
  return jsonReply(200, { tokens: tokens.map(describe) });
}

export async function deleteToken({ project, token }: Call, services: Services): Promise<Reply> {
  const deleted = await services.directory.deleteToken(project, token);
  services.forgetTokens();
  if (!deleted) throw new HttpError("not_found");
  return NO_CONTENT;
}

/** A token does not outlive its minter. */
function boundedExpiry(minter: Principal, expiresAt: number | undefined, now: number): number | null {
  if (expiresAt === undefined) return minter.expiresAt;
  if (expiresAt <= now) {
    throw new HttpError("invalid_request", { message: "Field expiresAt must be in the future." });
  }
  if (minter.expiresAt !== null && expiresAt > minter.expiresAt) {
    throw new HttpError("permission_denied", { message: "A token cannot outlive the token that mints it." });
  }
  return expiresAt;
}

function describe({ id, name, grants, createdAt, expiresAt, lastUsedAt }: KeptToken): TokenInfo {
  return { id, name, grants, createdAt, expiresAt, lastUsedAt };
}
