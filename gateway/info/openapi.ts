/**
 * The OpenAPI 3.1 description of exactly the routes that exist; a test compares both ways.
 *
 * Written by hand: the routes take raw bytes and headers, of which a generator from schemas would
 * say little. Parts that several operations share stand in `openapi-parts.ts`.
 */
import type { ManagedRoute } from "#gateway/http/managed-route.ts";
import { security, securitySchemes, withAccess } from "./openapi-access.ts";
import { adminPaths } from "./openapi-admin.ts";
import { auditPaths } from "./openapi-audit.ts";
import { encryptionPaths } from "./openapi-encryption.ts";
import { keyPaths } from "./openapi-keys.ts";
import {
  manyPaths,
  scanContent,
  scanDescription,
  scanParameters,
  scanProblems,
} from "./openapi-many.ts";
import { metricsPaths } from "./openapi-metrics.ts";
import {
  conditionParameters,
  jsonContent,
  key64OptionalParameter,
  key64Parameter,
  keyPathParameter,
  problem,
  readParameters,
  requestParameters,
  schemas,
  valueHeaders,
  valueParameters,
  writeParameters,
} from "./openapi-parts.ts";
import { tenantPaths } from "./openapi-tenants.ts";
import { tokenPaths } from "./openapi-tokens.ts";
import { watchPaths } from "./openapi-watch.ts";

/** The document, ready for JSON. `routes` are those that have their rule in their entry. */
export function openApiDocument(version: string, routes: readonly ManagedRoute[]) {
  return {
    openapi: "3.1.0",
    info: {
      title: "minikv",
      version,
      summary: "A durable, linearizable key-value store over HTTP",
      description:
        "Keys are byte strings, values are opaque bytes. Single-key operations are linearizable, " +
        "and a write that was acknowledged is on disk. Errors are RFC 9457 problems; match " +
        "`code`. Errors of writes say in `outcome` whether the write may have been applied. " +
        "Unknown query parameters are refused. Every answer has an `X-Request-ID`.",
      license: { name: "MIT", identifier: "MIT" },
    },
    servers: [{ url: "/" }],
    tags: [
      { name: "key-value", description: "One key, or many" },
      { name: "operators", description: "The cluster as a whole" },
      { name: "service", description: "The server about itself" },
    ],
    security,
    paths: withAccess(
      {
        ...kvPaths(),
        ...manyPaths(),
        ...watchPaths(),
        ...adminPaths(),
        ...keyPaths(),
        ...tokenPaths(),
        ...tenantPaths(),
        ...encryptionPaths(),
        ...auditPaths(),
        ...metricsPaths(),
        ...servicePaths(),
      },
      routes,
    ),
    components: { schemas, securitySchemes },
  };
}

function kvPaths() {
  const byPath = {
    get: readOperation("getByPath", "Read a value", true),
    head: readOperation("headByPath", "Read a value's metadata", false),
    put: putOperation("putByPath"),
    delete: deleteOperation("deleteByPath"),
  };
  return {
    "/v1/kv/{key}": { parameters: [keyPathParameter], ...byPath },
    "/v1/kv": {
      get: collectionOperation(),
      head: withKey64(byPath.head, "headByKey64"),
      put: withKey64(byPath.put, "putByKey64"),
      delete: withKey64(byPath.delete, "deleteByKey64"),
    },
  };
}

/** The same operation on a key that is named in the query. */
function withKey64<T extends { readonly parameters: readonly object[] }>(
  operation: T,
  operationId: string,
) {
  return { ...operation, operationId, parameters: [key64Parameter, ...operation.parameters] };
}

/** One path and method for two things: a description can only hold both. */
function collectionOperation() {
  const read = readOperation("", "", true);
  return {
    operationId: "getKeys",
    summary: "List keys, or with `key64` read a value",
    description: `${scanDescription} With \`key64\`: ${read.description}`,
    tags: ["key-value"],
    parameters: [
      key64OptionalParameter,
      ...scanParameters,
      ...valueParameters,
      ...requestParameters,
    ],
    responses: {
      ...read.responses,
      ...scanProblems,
      "200": {
        description: "A page, a stream or a count; with `key64` the value",
        headers: valueHeaders,
        content: { ...scanContent, "*/*": { schema: { type: "string", format: "binary" } } },
      },
    },
  };
}

function readOperation(operationId: string, summary: string, withBody: boolean) {
  const content = withBody
    ? { content: { "*/*": { schema: { type: "string", format: "binary" } } } }
    : {};
  const ranged = withBody
    ? {
        "206": { description: "A part of the value", headers: valueHeaders, ...content },
        "416": problem("RANGE_NOT_SATISFIABLE; `Content-Range` has the size"),
      }
    : {};
  return {
    operationId,
    summary,
    description:
      "Answers the stored bytes with their stored `Content-Type`. One `Range` is served, several " +
      "are answered with the whole value. `If-Modified-Since` is ignored: dates are too coarse; " +
      "use `If-None-Match`.",
    tags: ["key-value"],
    parameters: withBody ? readParameters : readParameters.filter((p) => !/range/i.test(p.name)),
    responses: {
      "200": { description: "The value", headers: valueHeaders, ...content },
      "304": { description: "`If-None-Match` names the current revision" },
      ...ranged,
      "400": problem("INVALID_ARGUMENT"),
      "404": problem("KEY_NOT_FOUND"),
      "412": problem("CONDITION_FAILED; `ETag` is the current one"),
      "414": problem("KEY_TOO_LONG"),
      "503": problem("NOT_LEADER, UNAVAILABLE or OVERLOADED; see `Retry-After`"),
      "504": problem("DEADLINE_EXCEEDED"),
    },
  };
}

function putOperation(operationId: string) {
  const stored = {
    headers: { ETag: { schema: { type: "string" }, description: "The new revision" } },
    ...jsonContent("PutResult"),
  };
  return {
    operationId,
    summary: "Store a value",
    description:
      "Replaces the whole value, its type and its expiry. Without a TTL the value does not " +
      "expire. `Expect: 100-continue` is answered with the final status when the request is " +
      "refused before its body.",
    tags: ["key-value"],
    parameters: [...writeParameters, ...conditionParameters, ...requestParameters],
    requestBody: {
      description: "The value. Its `Content-Type` is stored (at most 256 bytes).",
      content: { "*/*": { schema: { type: "string", format: "binary" } } },
    },
    responses: {
      "200": { description: "Replaced", ...stored },
      "201": { description: "Created", ...stored },
      "400": problem("INVALID_ARGUMENT"),
      "408": problem("REQUEST_TIMEOUT"),
      "412": problem("CONDITION_FAILED; `ETag` is the current one, absent if the key is"),
      "413": problem("PAYLOAD_TOO_LARGE, with `limit` and `actual`"),
      "414": problem("KEY_TOO_LONG"),
      "415": problem("UNSUPPORTED_MEDIA_TYPE: the body has a `Content-Encoding`"),
      "417": problem("EXPECTATION_FAILED"),
      "503": problem("NOT_LEADER, UNAVAILABLE or OVERLOADED; see `Retry-After`"),
      "504": problem("DEADLINE_EXCEEDED"),
      "507": problem("STORAGE_FULL"),
    },
  };
}

function deleteOperation(operationId: string) {
  return {
    operationId,
    summary: "Delete a key",
    tags: ["key-value"],
    parameters: [...conditionParameters, ...requestParameters],
    responses: {
      "204": { description: "Deleted" },
      "400": problem("INVALID_ARGUMENT"),
      "404": problem("KEY_NOT_FOUND"),
      "412": problem("CONDITION_FAILED; `ETag` is the current one"),
      "414": problem("KEY_TOO_LONG"),
      "503": problem("NOT_LEADER, UNAVAILABLE or OVERLOADED; see `Retry-After`"),
      "504": problem("DEADLINE_EXCEEDED"),
      "507": problem("STORAGE_FULL"),
    },
  };
}

function servicePaths() {
  const health = (operationId: string, summary: string, whenNot?: string) => ({
    get: {
      operationId,
      summary,
      tags: ["service"],
      responses: {
        "200": { description: "Yes", ...jsonContent("Health") },
        ...(whenNot === undefined ? {} : { "503": problem(`UNAVAILABLE: ${whenNot}`) }),
      },
    },
  });
  const document = (operationId: string, summary: string, schema: keyof typeof schemas) => ({
    get: {
      operationId,
      summary,
      tags: ["service"],
      responses: { "200": { description: summary, ...jsonContent(schema) } },
    },
  });
  const errorCode = {
    name: "code",
    in: "path",
    required: true,
    schema: { type: "string" },
  };
  const errorPage = document("getError", "What an error code means", "ErrorPage");
  return {
    "/": document("getPointer", "Name, version and links", "Pointer"),
    "/openapi.json": document("getOpenApi", "This document", "OpenApi"),
    "/v1/limits": document("getLimits", "Every bound that applies to the caller", "Limits"),
    "/errors/{code}": {
      parameters: [errorCode],
      get: {
        ...errorPage.get,
        responses: { ...errorPage.get.responses, "404": problem("ROUTE_NOT_FOUND") },
      },
    },
    "/health/live": health("getLive", "Whether the process answers"),
    "/health/startup": health("getStartup", "Whether it has started", "it is starting"),
    "/health/ready": health("getReady", "Whether it can serve", "it cannot serve now"),
  };
}
