import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { HttpFigures } from "#gateway/http/http-figures.ts";
import { NodeFiguresSchema } from "#proto/gen/minikv/v1/cluster_pb.ts";
import { LATENCY_BOUNDS_MS } from "#shared/latency-histogram.ts";
import { gatewayFiguresJson, nodeFiguresJson } from "./figures.ts";

describe("nodeFiguresJson()", () => {
  it("gives numbers, and null for a node that tells none", () => {
    const figures = create(NodeFiguresSchema, { uptimeMs: 5n, gets: 7n, readCounts: [1n, 2n] });
    expect(nodeFiguresJson(figures)).toMatchObject({ uptime_ms: 5, gets: 7, read_counts: [1, 2] });
    expect(nodeFiguresJson(undefined)).toBe(null);
  });
});

describe("gatewayFiguresJson()", () => {
  it("sums up what clients asked for, and leaves operators and probes out", () => {
    const http = new HttpFigures();
    http.addConnections(() => 4);
    const key = http.routeIndex("/v1/kv/{key}");
    http.finished(key, "GET", 200, 0.05);
    http.finished(key, "PUT", 503, 3);
    http.finished(http.routeIndex("/v1/batch"), "POST", 200, 1e9);
    for (const route of ["/admin/status", "/metrics", "/health/ready"]) {
      http.finished(http.routeIndex(route), "GET", 500, 1);
    }
    const counts = new Array<number>(LATENCY_BOUNDS_MS.length + 1).fill(0);
    counts[0] = 1;
    counts[LATENCY_BOUNDS_MS.findIndex((bound) => bound >= 3)] = 1;
    counts[LATENCY_BOUNDS_MS.length] = 1;
    expect(gatewayFiguresJson({ http, uptimeMs: 10.4, watch: { watches: 2, lagMs: 7.2 } })).toEqual(
      {
        uptime_ms: 10,
        requests: 3,
        failures: 1,
        request_counts: counts,
        in_flight: 0,
        connections: 4,
        watchers: 2,
        watch_lag_ms: 7,
      },
    );
  });
});
