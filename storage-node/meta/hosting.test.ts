import { describe, expect, it } from "vitest";
import {
  type ClusterMap,
  fullyReplicatedMap,
  NodeState,
  type Placement,
} from "#shared/cluster-map.ts";
import { type GroupId, META_GROUP, type NodeId, replicaIdOf, VSHARD_COUNT } from "#shared/ids.ts";
import { hostingDifference } from "./hosting.ts";

const N1 = 1 as NodeId;
const N2 = 2 as NodeId;
const nodes = [1, 2, 3].map((id) => ({
  id: id as NodeId,
  address: `n${id}:1`,
  zone: "",
  host: "",
  state: NodeState.Up,
  capacityBytes: 0,
}));
const map = fullyReplicatedMap("test", nodes);
const held = (group: number, node: NodeId, sequence = 0) => ({
  group: group as GroupId,
  raft: { id: replicaIdOf(node, sequence) },
});
const all = (node: NodeId) => [
  ...Array.from({ length: VSHARD_COUNT }, (_, vshard) => held(vshard, node)),
  held(META_GROUP, node),
];

/** The map with another placement of vshard 5. */
function withPlacement(changes: Partial<Placement>): ClusterMap {
  const placements = [...map.placements];
  placements[5] = { ...placements[5]!, ...changes };
  return { ...map, placements };
}

describe("hostingDifference()", () => {
  it("has founders begin with each other as voters", () => {
    const { create, destroy } = hostingDifference(map, N1, []);
    expect(create.map(({ group }) => group)).toEqual([...Array(VSHARD_COUNT).keys(), META_GROUP]);
    expect(destroy).toEqual([]);
    expect(create[7]).toEqual({
      group: 7,
      replica: 1,
      configuration: {
        voters: [1, 2, 3],
        outgoing: [],
        learners: [],
        learnersNext: [],
        highestId: 3,
      },
    });
  });

  it("has nothing to do for what is hosted already", () => {
    expect(hostingDifference(map, N1, all(N1))).toEqual({ create: [], destroy: [] });
  });

  it("begins a replica of a group that exists without members", () => {
    const replica = replicaIdOf(N1, 1);
    const changed = withPlacement({ replicas: [{ replica, role: "learner" }], lastSequence: 1 });
    const hosted = all(N1).filter(({ group }) => group !== 5);
    const { create } = hostingDifference(changed, N1, hosted);
    expect(create).toMatchObject([
      { group: 5, replica, configuration: { voters: [], highestId: 0 } },
    ]);
  });

  it("does not take what is left of the founders for all of them", () => {
    // Node 3 was dropped, and node 2 starts only now.
    const changed = withPlacement({
      replicas: map.placements[5]!.replicas.slice(0, 2),
      lastSequence: 1,
    });
    const hosted = all(N2).filter(({ group }) => group !== 5);
    const { create } = hostingDifference(changed, N2, hosted);
    expect(create).toMatchObject([{ group: 5, replica: 2, configuration: { voters: [] } }]);
  });

  it("destroys what the placement has dropped, and makes its successor", () => {
    const replica = replicaIdOf(N1, 2);
    const changed = withPlacement({ replicas: [{ replica, role: "learner" }], lastSequence: 2 });
    const { create, destroy } = hostingDifference(changed, N1, all(N1));
    expect(destroy).toEqual([held(5, N1)]);
    expect(create).toMatchObject([{ group: 5, replica }]);
  });

  it("leaves alone what is newer than the map", () => {
    const hosted = [...all(N1).filter(({ group }) => group !== 5), held(5, N1, 3)];
    expect(hostingDifference(map, N1, hosted)).toEqual({ create: [], destroy: [] });
  });
});
