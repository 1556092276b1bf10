/** Metrics and logs in the OpenAPI document. */
import { problem } from "./openapi-parts.ts";

const LEVELS = ["debug", "info", "warn", "error", "fatal"];

const levelAnswer = {
  description:
    "`level` in force, `configured`, and `seconds_left` until the configured one comes back",
  content: {
    "application/json": {
      schema: {
        type: "object",
        properties: {
          level: { enum: LEVELS },
          configured: { enum: LEVELS },
          seconds_left: { type: "integer", minimum: 0 },
        },
        required: ["level", "configured"],
      },
    },
  },
} as const;

export function metricsPaths() {
  return {
    "/metrics": {
      get: {
        operationId: "getMetrics",
        summary: "Figures for Prometheus",
        description:
          "Of the gateway that is asked, and in the all-in-one also of its storage node. Prometheus' text " +
          "format, or OpenMetrics where `Accept` names it. docs/metrics.md says what each figure means.",
        tags: ["operators"],
        responses: {
          "200": {
            description: "Figures",
            content: {
              "text/plain": { schema: { type: "string" } },
              "application/openmetrics-text": { schema: { type: "string" } },
            },
          },
        },
      },
    },
    "/admin/log-level": {
      get: {
        operationId: "getLogLevel",
        summary: "Show what is logged",
        description: "By the gateway that is asked; in the all-in-one by the whole process.",
        tags: ["operators"],
        responses: { "200": levelAnswer, "400": problem("INVALID_ARGUMENT") },
      },
      put: {
        operationId: "setLogLevel",
        summary: "Log more or less for some time",
        description:
          "The gateway that is asked; in the all-in-one the whole process. The configured level comes back " +
          "by itself. `configured` brings it back at once.",
        tags: ["operators"],
        requestBody: {
          required: true,
          content: {
            "application/json": {
              schema: {
                type: "object",
                properties: {
                  level: { enum: [...LEVELS, "configured"] },
                  for: { type: "string", pattern: "^[0-9]{1,6}(s|m|h)$", default: "10m" },
                },
                required: ["level"],
                additionalProperties: false,
              },
            },
          },
        },
        responses: {
          "200": levelAnswer,
          "400": problem("INVALID_ARGUMENT"),
          "415": problem("UNSUPPORTED_MEDIA_TYPE"),
        },
      },
    },
  };
}
