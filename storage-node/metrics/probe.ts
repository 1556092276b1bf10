/**
 * A storage node's small HTTP listener: metrics, and what orchestrators ask.
 *
 * Live: the process answers. Started: it is a member of a cluster and has opened what it had. Ready: each
 * group with a replica here has a leader that is known here. It listens from the beginning, so that a
 * node that waits for its cluster is seen to be alive.
 */
import { type MetricFamily, renderMetrics } from "#shared/runtime/metrics.ts";
import { jsonProbe, type ProbeRoute } from "#shared/runtime/probe-server.ts";

export type ProbedNode = {
  readonly serving: boolean;
  readonly read: () => Promise<readonly MetricFamily[]>;
};

/** `node` is undefined until it has started, and again when it stops. */
export function nodeProbes(
  node: () => ProbedNode | undefined,
  ofProcess: () => Promise<readonly MetricFamily[]>,
): readonly ProbeRoute[] {
  const get = (path: string, run: ProbeRoute["run"]): ProbeRoute => ({ method: "GET", path, run });
  return [
    get("/metrics", async ({ header }) => {
      const families = await (node()?.read() ?? ofProcess());
      const { contentType, text } = await renderMetrics(families, header("accept"));
      return { status: 200, contentType, body: text };
    }),
    get("/health/live", () => jsonProbe(200, { status: "live" })),
    get("/health/startup", () =>
      node() === undefined
        ? jsonProbe(503, { status: "starting" })
        : jsonProbe(200, { status: "started" }),
    ),
    get("/health/ready", () => {
      const is = node();
      if (is === undefined) return jsonProbe(503, { status: "starting" });
      return is.serving
        ? jsonProbe(200, { status: "ready" })
        : jsonProbe(503, { status: "a group has no leader that is known here" });
    }),
  ];
}
