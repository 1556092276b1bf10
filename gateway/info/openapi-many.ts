/** The operations on many keys at once, for `openapi.ts`: batches and scans. */
import {
  BATCH_OPERATIONS_MAX,
  BATCH_READ_BYTES_MAX,
  SCAN_LIMIT_DEFAULT,
  SCAN_LIMIT_MAX,
  SCAN_PAGE_BYTES_MAX,
} from "#shared/limits.ts";
import {
  consistencyParameters,
  jsonContent,
  problem,
  query,
  requestParameters,
  schemaReference,
} from "./openapi-parts.ts";

const FLAG = { type: "boolean", default: false } as const;
const BOUND = "UTF-8; the same name with 64 takes any bytes in base64url";

export const scanParameters = [
  query("prefix", `Only keys that begin with it. ${BOUND}`),
  query("prefix64", "See `prefix`"),
  query("start", `Only keys from here on, inclusive. ${BOUND}`),
  query("start64", "See `start`"),
  query("end", `Only keys before it, exclusive. ${BOUND}`),
  query("end64", "See `end`"),
  query("limit", `Keys in the page; not for streams`, {
    ...{ type: "integer", minimum: 1, maximum: SCAN_LIMIT_MAX },
    default: SCAN_LIMIT_DEFAULT,
  }),
  query("cursor", "Where the page before ended; all that chooses keys must be as it was there"),
  query("reverse", "From the last key to the first", FLAG),
  query("keys_only", "Leave the values out", FLAG),
  query("count_only", "Only `{count}`", FLAG),
  ...consistencyParameters,
] as const;

export const scanDescription =
  "Keys in byte order over all vshards. A page ends early when its keys and values exceed " +
  `${SCAN_PAGE_BYTES_MAX} bytes. With \`Accept: application/x-ndjson\` all keys are streamed, one JSON ` +
  "object per line; a stream that breaks off ends with a line `{error, cursor}`. A prefix with a whole " +
  "`{tag}` asks one vshard only. A scan is no snapshot: vshards and pages are read at different " +
  "moments, each read linearizably (or as stale as asked for).";

/** What a scan answers with in any form. */
export const scanContent = {
  "application/json": { schema: { oneOf: [schemaReference("Page"), schemaReference("Count")] } },
  "application/x-ndjson": { schema: schemaReference("Item") },
} as const;

export const scanProblems = {
  "400": problem("INVALID_ARGUMENT, also for a cursor of another query"),
  "414": problem("KEY_TOO_LONG"),
  "503": problem("NOT_LEADER, UNAVAILABLE or OVERLOADED; see `Retry-After`"),
  "504": problem("DEADLINE_EXCEEDED"),
} as const;

function rangeOperation() {
  return {
    operationId: "getRange",
    summary: "List keys: another name of `GET /v1/kv`",
    description: scanDescription,
    tags: ["key-value"],
    parameters: [...scanParameters, ...requestParameters],
    responses: {
      "200": { description: "A page, a stream or a count", content: scanContent },
      ...scanProblems,
    },
  };
}

function batchOperation(operationId: string, summary: string) {
  return {
    operationId,
    summary,
    description:
      `Up to ${BATCH_OPERATIONS_MAX} operations, each with a result of its own, in their order. Not ` +
      "atomic: some may be applied and others not. Operations on one key take effect in their order; " +
      "between keys there is none. The consistency is that of the reads. Values that are read have at " +
      `most ${BATCH_READ_BYTES_MAX} bytes together, beyond which a read fails with ANSWER_TOO_LARGE in ` +
      "its result. An error of the whole request means that nothing was applied.",
    tags: ["key-value"],
    parameters: [...consistencyParameters, ...requestParameters],
    requestBody: { required: true, ...jsonContent("Batch") },
    responses: {
      "200": { description: "One result per operation", ...jsonContent("BatchResults") },
      "400": problem("INVALID_ARGUMENT; `detail` names the operation"),
      "408": problem("REQUEST_TIMEOUT"),
      "413": problem("PAYLOAD_TOO_LARGE, with `limit` and `actual`"),
      "414": problem("KEY_TOO_LONG"),
      "415": problem(
        "UNSUPPORTED_MEDIA_TYPE: not `application/json`, or with a `Content-Encoding`",
      ),
      "417": problem("EXPECTATION_FAILED"),
      "503": problem("UNAVAILABLE or OVERLOADED; see `Retry-After`"),
    },
  };
}

export function manyPaths() {
  return {
    "/v1/batch": { post: batchOperation("postBatch", "Many operations in one request") },
    "/batch": { post: batchOperation("postBatchAlias", "Another name of `POST /v1/batch`") },
    "/range": { get: rangeOperation() },
  };
}
