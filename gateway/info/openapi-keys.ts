/** API keys in the OpenAPI document. */
import { ACTIONS } from "#gateway/auth/caller.ts";
import { KEYS_PAGE_DEFAULT, KEYS_PAGE_MAX } from "#shared/limits.ts";
import { jsonContent, problem, query, requestParameters } from "./openapi-parts.ts";

const idParameter = {
  name: "id",
  in: "path",
  required: true,
  description: "The key's id: the part behind `mkv_`",
  schema: { type: "string" },
} as const;

const tags = ["operators"];
const notFound = problem("RESOURCE_NOT_FOUND, for a cluster's administrator; FORBIDDEN for others");
const unavailable = problem("NOT_LEADER, UNAVAILABLE or OVERLOADED; see `Retry-After`");

const responses = (status: string, description: string, content: object) => ({
  [status]: { description, ...content },
  "400": problem("INVALID_ARGUMENT"),
  "404": notFound,
  "503": unavailable,
  "504": problem("DEADLINE_EXCEEDED"),
});

const conflict = {
  "409": problem("CLUSTER_CONFLICT; `detail` has the reason. CONFLICT: another change came first"),
  "415": problem("UNSUPPORTED_MEDIA_TYPE"),
};

const allKeys = {
  "/admin/keys": {
    get: {
      operationId: "listApiKeys",
      summary: "List API keys",
      description:
        "Of the caller's tenant. A cluster's administrator sees those of all tenants, or with " +
        "`tenant` or `Minikv-Tenant` those of one.",
      tags,
      parameters: [
        query("tenant", "By name"),
        query("limit", `At most so many, ${KEYS_PAGE_DEFAULT} by default`, {
          type: "integer",
          minimum: 1,
          maximum: KEYS_PAGE_MAX,
        }),
        query("cursor", "Where the page before has ended"),
        ...requestParameters,
      ],
      responses: responses("200", "A page", jsonContent("ApiKeyPage")),
    },
    post: {
      operationId: "createApiKey",
      summary: "Make an API key",
      description: "The key is in the answer and nowhere else. No role above the caller's own.",
      tags,
      parameters: requestParameters,
      requestBody: { required: true, ...jsonContent("KeyRequest") },
      responses: { ...responses("201", "Made", jsonContent("ShownApiKey")), ...conflict },
    },
  },
};

const oneKey = {
  "/admin/keys/{id}": {
    parameters: [idParameter],
    get: {
      operationId: "getApiKey",
      summary: "Show an API key without its secrets",
      tags,
      parameters: requestParameters,
      responses: responses("200", "The key", jsonContent("ApiKey")),
    },
    delete: {
      operationId: "deleteApiKey",
      summary: "Delete an API key",
      description: "It is not valid any more, and nothing is left of it.",
      tags,
      parameters: requestParameters,
      responses: { ...responses("204", "Deleted", {}), ...conflict },
    },
  },
  "/admin/keys/{id}/revoke": {
    parameters: [idParameter],
    post: {
      operationId: "revokeApiKey",
      summary: "Revoke an API key for good",
      description: "Within a second no gateway takes it any more. It stays in lists.",
      tags,
      parameters: requestParameters,
      responses: { ...responses("200", "Revoked", jsonContent("ApiKey")), ...conflict },
    },
  },
  "/admin/keys/{id}/rotate": {
    parameters: [idParameter],
    post: {
      operationId: "rotateApiKey",
      summary: "Give an API key a new secret",
      description:
        "The id stays. The secret before works for the time of `overlap`; a key has at most two.",
      tags,
      parameters: requestParameters,
      requestBody: jsonContent("KeyRotation"),
      responses: { ...responses("200", "Rotated", jsonContent("ShownApiKey")), ...conflict },
    },
  },
};

const explaining = {
  "/admin/auth/explain": {
    get: {
      operationId: "explainAuth",
      summary: "Which rule decides about an operation with an API key",
      tags,
      parameters: [
        { ...query("key", "The key's id"), required: true },
        { ...query("op", "The action", { enum: ACTIONS }), required: true },
        query("path", "Of the request: `/v1/kv/{key}`, or `/v1/kv?prefix=…` for `kv.list`"),
        query("tenant", "Whose data; of the key, if it is left out"),
        query("address", "From where the request comes; networks are left out without it"),
        ...requestParameters,
      ],
      responses: responses("200", "The decision", jsonContent("AuthDecision")),
    },
  },
};

export const keyPaths = () => ({ ...allKeys, ...oneKey, ...explaining });
