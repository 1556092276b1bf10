import { describe, expect, it } from "vitest";
import {
  type ClusterMap,
  type ClusterNode,
  fullyReplicatedMap,
  NodeState,
} from "#shared/cluster-map.ts";
import { type NodeId, replicaIdOf, toNodeId } from "#shared/ids.ts";
import { plan } from "#storage-node/meta/planner.ts";
import { isAloneAndWhole } from "./alone.ts";

const node = (id: number, state: ClusterNode["state"] = NodeState.Up): ClusterNode => ({
  ...{ id: toNodeId(id), address: "", zone: "", host: "", state, capacityBytes: 0 },
});
const alone = fullyReplicatedMap("c", [node(1)]);

/** The map with another placement of vshard 7. */
const withPlacement = (change: Partial<ClusterMap["meta"]>): ClusterMap => ({
  ...alone,
  placements: alone.placements.map((p) => (p.group === 7 ? { ...p, ...change } : p)),
});

describe("isAloneAndWhole()", () => {
  it("holds for a node that has everything, for which there is nothing to plan", () => {
    expect(isAloneAndWhole(alone)).toBe(true);
    const answering = {
      ...{ answering: true, lost: false, slow: false, writable: true },
      ...{ usedBytes: 0, capacityBytes: 0 },
    };
    const options = { replicationFactor: 3, metaReplicas: 3, movesAtOnceMax: 4 };
    for (const nodes of [new Map(), new Map([[toNodeId(1), answering]])]) {
      const found = plan({ map: alone, nodes, groups: new Map(), options });
      expect([found.placements, found.nodes, found.removedNodes]).toEqual([[], [], []]);
    }
  });

  it.each([
    ["a second node", fullyReplicatedMap("c", [node(1), node(2)])],
    ["a second node without replicas", { ...alone, nodes: [node(1), node(2)] }],
    ["a node that drains", fullyReplicatedMap("c", [node(1, NodeState.Draining)])],
    [
      "a learner",
      withPlacement({ replicas: [{ replica: replicaIdOf(toNodeId(1), 0), role: "learner" }] }),
    ],
    [
      "a replica elsewhere",
      withPlacement({ replicas: [{ replica: replicaIdOf(toNodeId(2), 0), role: "voter" }] }),
    ],
    ["a group without replicas", withPlacement({ replicas: [] })],
    ["no preferred leader", withPlacement({ preferredLeader: 0 as NodeId })],
    ["a meta group that is not whole", { ...alone, meta: { ...alone.meta, replicas: [] } }],
  ])("does not hold with %s", (_, map) => {
    expect(isAloneAndWhole(map)).toBe(false);
  });
});
