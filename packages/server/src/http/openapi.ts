/** Makes the OpenAPI 3.1 document out of the route table and the schemas; spec/http.md § OpenAPI. */

import { ERROR_STATUS, ID_PATTERN, RECORD_MEDIA_TYPE } from "@tacenda/protocol";
import { z } from "zod";

import type { Answer, Route } from "./routes.js";
import { errorBody } from "./schemas.js";

const ID = { type: "string", pattern: ID_PATTERN.source };
const TAG = { type: "string", pattern: '^"[1-9][0-9]{0,15}"$' };

const PARAMETERS: Readonly<Record<string, object>> = {
  project: ID,
  store: ID,
  token: { type: "string" },
  hash: { type: "string", pattern: "^[A-Za-z0-9_-]{43}$" },
  version: { type: "integer", minimum: 1, maximum: Number.MAX_SAFE_INTEGER },
  purge: { type: "string", enum: ["earlier"] },
};

const BYTES = { content: { [RECORD_MEDIA_TYPE]: {} } };

function jsonContent(schema: object): object {
  return { content: { "application/json": { schema } } };
}

function schemaOf(schema: z.ZodType, io: "input" | "output"): object {
  const described = z.toJSONSchema(schema, { io });
  // OpenAPI 3.1 has this dialect anyway.
  delete described.$schema;
  return described;
}

function describeAnswer(answer: Answer): object {
  if (answer === "empty") return { description: "Done" };
  if (answer === "record") return { description: "The sealed record", headers: { ETag: { schema: TAG } }, ...BYTES };
  return { description: "Done", ...jsonContent(schemaOf(answer, "output")) };
}

function describeParameters(route: Route): object[] {
  const inPath = Array.from(route.path.matchAll(/:(\w+)/g), ([, name = ""]) => ({ name, in: "path", required: true }));
  const inQuery = route.query.map((name) => ({ name, in: "query", required: false }));
  return [...inPath, ...inQuery].map((parameter) => ({ ...parameter, schema: PARAMETERS[parameter.name] }));
}

function describeBody(route: Route): object {
  if (route.request) return { requestBody: { required: true, ...jsonContent(schemaOf(route.request, "input")) } };
  if (route.body === "bytes") return { requestBody: { required: true, ...BYTES } };
  return route.body === "optional bytes" ? { requestBody: { required: false, ...BYTES } } : {};
}

function describeRoute(route: Route): object {
  const answers = Object.entries(route.answers).map(([status, answer]) => [status, describeAnswer(answer)] as const);
  return {
    summary: route.summary,
    ...(route.permission === "public" && { security: [] }),
    parameters: describeParameters(route),
    ...describeBody(route),
    responses: { ...Object.fromEntries(answers), default: { $ref: "#/components/responses/Error" } },
  };
}

/** The document, as a plain object. */
export function describeApi(routes: readonly Route[]): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const path = route.path.replaceAll(/:(\w+)/g, "{$1}");
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: describeRoute(route) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Tacenda",
      version: "1",
      description: `A secret store that cannot read, name, list or link what it stores. Errors: ${Object.keys(ERROR_STATUS).join(", ")}.`,
    },
    security: [{ token: [] }],
    paths,
    components: {
      securitySchemes: { token: { type: "http", scheme: "bearer" } },
      responses: { Error: { description: "Not a success", ...jsonContent(schemaOf(errorBody, "output")) } },
    },
  };
}
