/** Parameters, headers and schemas that the operations of `openapi.ts` share. */
import { ERRORS } from "#shared/errors.ts";
import {
  BATCH_OPERATIONS_MAX,
  CONTENT_TYPE_SIZE_BYTES_MAX,
  DEADLINE_MS_DEFAULT,
  DEADLINE_MS_MAX,
  KEY_SIZE_BYTES_MAX,
  STALENESS_MS_DEFAULT,
  TTL_MS_MAX,
} from "#shared/limits.ts";
import { encryptionSchemas } from "./openapi-encryption-schemas.ts";
import { keySchemas } from "./openapi-key-schemas.ts";
import { tenantSchemas } from "./openapi-tenant-schemas.ts";
import { tokenSchemas } from "./openapi-token-schemas.ts";
import { watchSchemas } from "./openapi-watch-schemas.ts";

const TEXT = { type: "string" } as const;
const INTEGER = { type: "integer", minimum: 0 } as const;

const header = (name: string, description: string, schema: object = TEXT) =>
  ({ name, in: "header", description, schema }) as const;

export const query = (name: string, description: string, schema: object = TEXT) =>
  ({ name, in: "query", description, schema }) as const;

export const keyPathParameter = {
  name: "key",
  in: "path",
  required: true,
  description:
    `Any byte string of 1 to ${KEY_SIZE_BYTES_MAX} bytes, percent-encoded; slashes may stay bare. ` +
    "Nothing is normalised: `..` is a key like any other.",
  schema: TEXT,
} as const;

export const key64Parameter = {
  ...query("key64", "The key in base64url, where something on the way would rewrite a path"),
  required: true,
} as const;

/** Of a request that may be about one key. */
export const key64OptionalParameter = query(
  "key64",
  "Read this one key, given in base64url, as `GET /v1/kv/{key}` does",
);

/** Every request takes them. */
export const requestParameters = [
  header("X-Request-ID", "Kept and echoed if it matches", {
    ...TEXT,
    pattern: "^[A-Za-z0-9._-]{1,128}$",
  }),
  header("traceparent", "W3C trace context, passed on"),
  header(
    "Minikv-Timeout",
    `How long to wait for storage, such as 500ms or 5s; at most ${DEADLINE_MS_MAX / 1000}s, ` +
      `${DEADLINE_MS_DEFAULT / 1000}s by default`,
  ),
] as const;

export const conditionParameters = [
  header("If-Match", "`*` (the key exists) or entity tags, one of which is the current one"),
  header("If-None-Match", "`*` (the key does not exist) or entity tags, none the current one"),
] as const;

const TTL = { type: "integer", minimum: 1, maximum: TTL_MS_MAX / 1000 } as const;

export const writeParameters = [
  header("Minikv-TTL", "Seconds after which the value expires", TTL),
  header("X-Minikv-TTL", "The same under its older name", TTL),
  query("ttl", "The same as a parameter; what is given several times must agree", TTL),
  header("Content-Type", "Stored with the value", {
    ...TEXT,
    maxLength: CONTENT_TYPE_SIZE_BYTES_MAX,
  }),
] as const;

export const consistencyParameters = [
  query("consistency", "How current the answer must be", {
    enum: ["linearizable", "stale"],
    default: "linearizable",
  }),
  query(
    "max_staleness",
    `With \`stale\`: how far behind it may be, such as 5s (default ${STALENESS_MS_DEFAULT / 1000}s)`,
  ),
] as const;

/** Headers that only a read of one key takes. */
export const valueParameters = [
  ...conditionParameters,
  header("Range", "`bytes=first-last`, `bytes=first-` or `bytes=-length`"),
  header("If-Range", "Serve the range only if this is the current entity tag"),
] as const;

export const readParameters = [
  ...consistencyParameters,
  ...valueParameters,
  ...requestParameters,
] as const;

export const valueHeaders = {
  ETag: { schema: TEXT, description: "The revision in double quotes" },
  "Minikv-Revision": { schema: INTEGER, description: "Counts the changes of the key's vshard" },
  "Minikv-Expires-At": {
    schema: { ...TEXT, format: "date-time" },
    description: "Present if the value expires",
  },
  "Last-Modified": { schema: TEXT },
  "Accept-Ranges": { schema: { const: "bytes" } },
} as const;

const object = (properties: Record<string, object>, required = Object.keys(properties)) => ({
  type: "object",
  properties,
  required,
});

const KEY = "`key` is there when the key is UTF-8, else `key64` (base64url); never both";
const VALUE = "`value` is there when the value is UTF-8, else `value_base64`; never both";

const storedProperties = {
  revision: INTEGER,
  content_type: TEXT,
  size: { ...INTEGER, description: "Of the value, in bytes" },
  expires_at: { ...TEXT, format: "date-time" },
  value: TEXT,
  value_base64: { ...TEXT, contentEncoding: "base64" },
} as const;

const revisionCondition = {
  description: "As the header of the same name, or a revision",
  anyOf: [TEXT, { type: "integer", minimum: 1 }],
} as const;

/** `components.schemas` of the document. */
export const schemas = {
  PutResult: {
    description: "`key` is there when the key is UTF-8, else `key64` (base64url); never both",
    ...object({ key: TEXT, key64: TEXT, revision: INTEGER, created: { type: "boolean" } }, [
      "revision",
      "created",
    ]),
  },
  Item: {
    description: `${KEY}. ${VALUE}, and neither with keys_only`,
    ...object({ key: TEXT, key64: TEXT, ...storedProperties }, [
      ...["revision", "content_type", "size"],
    ]),
  },
  Page: object({
    items: { type: "array", items: { $ref: "#/components/schemas/Item" } },
    has_more: { type: "boolean" },
    cursor: { type: ["string", "null"], description: "For the next page; null if there is none" },
  }),
  Count: object({ count: INTEGER }),
  Batch: object({
    ops: {
      type: "array",
      maxItems: BATCH_OPERATIONS_MAX,
      items: {
        description: `Exactly one of \`key\` and \`key64\`; for a put exactly one of \`value\` and \`value_base64\``,
        ...object(
          {
            op: { enum: ["put", "get", "delete"] },
            ...{ key: TEXT, key64: TEXT, value: TEXT, value_base64: TEXT, content_type: TEXT },
            ttl: TTL,
            ...{ if_match: revisionCondition, if_none_match: revisionCondition },
          },
          ["op"],
        ),
        additionalProperties: false,
      },
    },
  }),
  BatchResults: object({
    results: {
      type: "array",
      items: {
        description: `${KEY}. \`status\` is that of the operation alone. ${VALUE}, where one was read`,
        ...object(
          {
            op: { enum: ["put", "get", "delete"] },
            ...{ key: TEXT, key64: TEXT, status: INTEGER, created: { type: "boolean" } },
            ...storedProperties,
            error: object(
              {
                code: { enum: Object.keys(ERRORS) },
                detail: TEXT,
                retryable: { type: "boolean" },
                outcome: { enum: ["not_applied", "unknown"], description: "Of a write" },
              },
              ["code", "detail", "retryable"],
            ),
          },
          ["op", "status"],
        ),
      },
    },
  }),
  Problem: {
    description: "RFC 9457; `type` is a path on this server that explains `code`",
    ...object(
      {
        type: { ...TEXT, format: "uri-reference" },
        title: TEXT,
        status: INTEGER,
        detail: TEXT,
        code: { enum: Object.keys(ERRORS) },
        request_id: TEXT,
        retryable: { type: "boolean" },
        outcome: { enum: ["not_applied", "unknown"], description: "On every error of a write" },
        limit: INTEGER,
        actual: INTEGER,
      },
      ["type", "title", "status", "detail", "code", "request_id", "retryable"],
    ),
  },
  ErrorPage: object({
    code: { enum: Object.keys(ERRORS) },
    status: INTEGER,
    title: TEXT,
    retryable: { type: "boolean" },
    meaning: TEXT,
    remedy: TEXT,
  }),
  Limits: {
    type: "object",
    additionalProperties: INTEGER,
    description: "`tenant_…` and `address_…` are there when they are limited",
  },
  Health: object({ status: TEXT }),
  AdminInvite: object({
    address: { ...TEXT, description: "`host:port`, as the node advertises it" },
  }),
  AdminTransfer: object({ node: { ...INTEGER, description: "Id of the node that is to lead" } }),
  ClusterChange: object(
    {
      detail: { ...TEXT, description: "What was decided, for people" },
      map_version: INTEGER,
      node_id: { ...INTEGER, description: "Of an invited node" },
    },
    ["detail", "map_version"],
  ),
  ClusterStatus: {
    description: "Null stands for what is not known",
    ...object({
      cluster_id: TEXT,
      map_version: INTEGER,
      feature_version: INTEGER,
      source: { enum: ["meta_leader", "gateway"] },
      reason: { type: ["string", "null"], description: "Why the meta group's leader did not tell" },
      meta: { type: "object", description: "`leader`, `has_quorum`, `nodes`" },
      nodes: {
        type: "array",
        items: { type: "object" },
        description:
          "`id`, `address`, `zone`, `host`, `state` (up, draining, down, removing), `answering`, " +
          "`report_age_ms`, `replicas`, `leaders`, `lag_entries_max`, `used_bytes`, " +
          "`capacity_bytes`, `sync_micros`, `writable`, `map_version`, `software_version`, " +
          "`feature_version` (what it knows; the cluster's is the least of all), `figures` (what it has done since its start: rates are differences of two answers), and " +
          "while it drains or is removed `drain` with `replicas_left`, `leaders_left` and `blocked`, " +
          "which says why it cannot go on",
      },
      vshards: {
        type: "object",
        description:
          "`count`, `without_leader` and `without_quorum` (numbers of vshards), `size_bytes`, " +
          "`objects`",
      },
      lag: {
        type: ["object", "null"],
        description: "Of the replica that is furthest behind: `group`, `node`, `entries`",
      },
      moves: {
        type: "array",
        items: { type: "object" },
        description: "`group`, `to` (`node`, `lag_entries`, `needs_snapshot`), `from`",
      },
      latency_bounds_ms: {
        type: "array",
        items: { type: "number" },
        description: "Of the members `…_counts`, whose last one counts what is beyond all of them",
      },
      gateway: {
        type: ["object", "null"],
        description: "What the gateway that answers has done since its start",
      },
    }),
  },
  ...keySchemas,
  ...tenantSchemas,
  Pointer: object({ name: TEXT, version: TEXT, links: { type: "object" } }),
  OpenApi: { type: "object" },
  ...tokenSchemas,
  ...watchSchemas,
  ...encryptionSchemas,
} as const;

export const schemaReference = (schema: keyof typeof schemas) => ({
  $ref: `#/components/schemas/${schema}`,
});

export const jsonContent = (schema: keyof typeof schemas) => ({
  content: { "application/json": { schema: schemaReference(schema) } },
});

export const problem = (description: string) => ({
  description,
  content: {
    "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } },
  },
});
