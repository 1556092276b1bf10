/** A coordinator that leads the meta group of three nodes, and a fourth that may join. Used by tests only. */
import { create } from "@bufbuild/protobuf";
import {
  type BootstrapResponse,
  BootstrapResponseSchema,
  ChangeClusterRequestSchema,
  type DiscoverResponse,
  DiscoverResponseSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { fullyReplicatedMap } from "#shared/cluster-map.ts";
import { errorCodeFromWire } from "#shared/errors.ts";
import { FEATURE_VERSION } from "#shared/features.ts";
import { toNodeId } from "#shared/ids.ts";
import { INVITED_ANSWER_TIMEOUT_MS, TICK_MS } from "#shared/limits.ts";
import { Coordinator } from "#storage-node/meta/coordinator.ts";
import { MapHolder } from "#storage-node/meta/map-holder.ts";
import { foundingChange, foundingState } from "#storage-node/meta/map-rows.ts";
import { MetaStore } from "#storage-node/meta/meta-store.ts";
import { UsageSums } from "#storage-node/meta/usage-sums.ts";
import { FakeMetaGroup } from "./fake-meta-group.ts";
import { makeNode } from "./fixtures.ts";

export const ADDRESS = "10.0.0.4:7400";
const MAP = fullyReplicatedMap("c-1", [makeNode(1), makeNode(2), makeNode(3)]);

/** The leader of the meta group, and one node that waits to be invited. */
export async function leadingCoordinator(
  candidate: {
    readonly discover?: () => Promise<DiscoverResponse>;
    readonly bootstrap?: () => Promise<BootstrapResponse>;
    /** Of the cluster; that of this build by default. */
    readonly featureVersion?: number;
  } = {},
) {
  const clock = new ManualClock();
  const failures: string[] = [];
  const plans: string[] = [];
  const group = new FakeMetaGroup();
  const store = new MetaStore(group, clock);
  const tokens = new Map(MAP.nodes.map(({ id }) => [id, Uint8Array.of(id)]));
  await store.change(() => ({
    state: foundingState({ ...MAP, featureVersion: candidate.featureVersion ?? FEATURE_VERSION }),
    change: foundingChange(MAP, tokens),
  }));
  const map = (await store.read())!.map;
  const fatal = (error: unknown): never => {
    throw error;
  };
  const maps = new MapHolder(map, async () => {}, fatal);
  const waiting = {
    ...{ address: ADDRESS, zone: "z", joinToken: utf8("token"), featureVersion: FEATURE_VERSION },
  };
  const coordinator = new Coordinator({
    nodeId: toNodeId(1),
    store,
    maps,
    usage: new UsageSums(() => 1),
    clock,
    peers: {
      discover: candidate.discover ?? (async () => create(DiscoverResponseSchema, waiting)),
      bootstrap: candidate.bootstrap ?? (async () => create(BootstrapResponseSchema, {})),
    },
    replicationFactor: 3,
    metaReplicas: 3,
    movesAtOnceMax: 1,
    rebuildAfterMs: 1000,
    founding: undefined,
    onPlan: (reasons) => plans.push(...reasons),
    onPlanFailure: (error) => failures.push(String(error)),
  });
  const ask = async (clusterId = "c-1") => {
    const change = { case: "invite" as const, value: { address: ADDRESS } };
    const asked = coordinator.change(create(ChangeClusterRequestSchema, { clusterId, change }));
    for (let turn = 0; turn < 20; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
      clock.advance(INVITED_ANSWER_TIMEOUT_MS / 10);
    }
    const { failure, nodeId, detail } = await asked;
    if (failure === undefined) return { nodeId, detail };
    const { code, notApplied, detail: why } = failure;
    return { code: errorCodeFromWire(code), notApplied, why };
  };
  const nodes = async () => (await store.read())!.map.nodes.map(({ id }) => id);
  const pass = async (forMs: number): Promise<void> => {
    for (let ms = 0; ms < forMs; ms += TICK_MS) {
      clock.advance(TICK_MS);
      coordinator.tick();
      for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return { ask, pass, nodes, maps, group, store, coordinator, failures, plans };
}
