/** Which features an operation uses, for clusters whose storage nodes do not all know them yet. */
import type { Mutation, OperationBody } from "#proto/codec/messages.ts";
import type { ClusterMap } from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import { type Feature, missingFeature } from "#shared/features.ts";
import { Space } from "#shared/ids.ts";

/**
 * Why an operation must not be sent to a cluster. An older node might not refuse it: it drops the fields that it
 * does not know, and would store an encrypted value as if it were a plain one.
 */
export function featureRefusal(body: OperationBody, map: ClusterMap): KvError | undefined {
  if (body.kind !== "write") return undefined;
  for (const mutation of body.command.mutations) {
    const feature = featureOf(mutation);
    const why = feature && missingFeature(map, feature);
    if (why !== undefined) return new KvError("UNAVAILABLE", why, { outcome: "not_applied" });
  }
  return undefined;
}

function featureOf({ space, action }: Mutation): Feature | undefined {
  if (space === Space.Ticket) return "single-use tickets";
  const isEncoded = action.kind === "put" && (action.encoding ?? 0) !== 0;
  return isEncoded || action.kind === "reseal" ? "compressed or encrypted values" : undefined;
}
