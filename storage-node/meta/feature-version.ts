/** When the feature version of the cluster map rises. Pure. */
import type { ReportRequest } from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { ClusterMap } from "#shared/cluster-map.ts";
import { toldFeatureVersion } from "#shared/features.ts";
import type { NodeId } from "#shared/ids.ts";
import { NODE_SILENT_MS } from "#shared/limits.ts";

/**
 * The version that all nodes of the map know, if it is above the map's; undefined otherwise.
 *
 * All of them, whatever their state: one that is down may come back as it was. And by what they said a moment
 * ago: one that is silent may be on its way back to an older build.
 */
export function higherFeatureVersion(
  map: Pick<ClusterMap, "nodes" | "featureVersion">,
  reports: ReadonlyMap<
    NodeId,
    { readonly report: Pick<ReportRequest, "featureVersion">; readonly atMs: number }
  >,
  nowMs: number,
): number | undefined {
  let known = Number.POSITIVE_INFINITY;
  for (const { id } of map.nodes) {
    const heard = reports.get(id);
    if (heard === undefined || nowMs - heard.atMs >= NODE_SILENT_MS) return undefined;
    known = Math.min(known, toldFeatureVersion(heard.report.featureVersion));
  }
  return known > map.featureVersion && Number.isFinite(known) ? known : undefined;
}
