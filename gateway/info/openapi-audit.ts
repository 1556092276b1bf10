/** The audit log in the OpenAPI document. */
import { AUDIT_STREAM_LINES_DEFAULT, AUDIT_STREAM_LINES_MAX } from "#shared/audit-limits.ts";
import { problem } from "./openapi-parts.ts";

const query = (name: string, description: string, schema: object) =>
  ({ name, in: "query", description, schema }) as const;

export function auditPaths() {
  return {
    "/admin/audit": {
      get: {
        operationId: "getAudit",
        summary: "Stream the audit log",
        description:
          "Of the gateway that is asked: each has its own. One JSON object in a line, in the order of " +
          "`seq`; `prev` is the SHA-256 of the line before. Lines that were rotated away are missing at " +
          "the beginning. An empty line says only that the stream goes on.",
        tags: ["operators"],
        parameters: [
          query(
            "since",
            "Number of the last line that is not wanted; by default the newest are sent",
            {
              type: "integer",
              minimum: 0,
            },
          ),
          query("limit", "Lines at most; with `follow` as many as there may be", {
            type: "integer",
            minimum: 1,
            maximum: AUDIT_STREAM_LINES_MAX,
            default: AUDIT_STREAM_LINES_DEFAULT,
          }),
          query("follow", "1 to wait for lines to come, for an hour at most", {
            enum: ["0", "1"],
            default: "0",
          }),
        ],
        responses: {
          "200": {
            description: "Lines",
            content: { "application/x-ndjson": { schema: { type: "string" } } },
          },
          "400": problem("INVALID_ARGUMENT"),
          "503": problem("OVERLOADED: too many streams of the audit log"),
        },
      },
    },
  };
}
