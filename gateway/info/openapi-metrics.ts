/** Metrics in the OpenAPI document. */
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
  };
}
