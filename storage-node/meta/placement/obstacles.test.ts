import { describe, expect, it } from "vitest";
import { type ClusterMap, NodeState } from "#shared/cluster-map.ts";
import { type GroupId, type NodeId, nodeOfReplica, replicaIdOf } from "#shared/ids.ts";
import {
  departureObstacles,
  type NodeObservation,
  type PlannerInput,
  plan,
} from "#storage-node/meta/planner.ts";
import {
  LOST,
  MiB,
  makeInput,
  makeMap,
  makeNodes,
  SILENT,
  WELL,
  withRows,
} from "#storage-node/meta/testing/fixtures.ts";

const leaving = (count: number, id: number, state: NodeState = NodeState.Draining): ClusterMap => {
  const map = makeMap(makeNodes(count), { vshards: 12 });
  return { ...map, nodes: map.nodes.map((row) => (row.id === id ? { ...row, state } : row)) };
};

const why = (map: ClusterMap, nodes: Record<number, NodeObservation> = {}) =>
  departureObstacles(makeInput(map, { nodes })).get(map.nodes[0]!.id);

describe("departureObstacles()", () => {
  it("has nothing to say of what goes on by itself", () => {
    expect(departureObstacles(makeInput(makeMap(makeNodes(3)))).size).toBe(0);
    expect(why(leaving(4, 1))).toBeUndefined();
    const map = leaving(4, 1);
    const begun = withRows(map, plan(makeInput(map)));
    expect(why(begun)).toBeUndefined();
    // Smaller groups are no obstacle either.
    expect(why(leaving(3, 1))).toBeUndefined();
    expect(why(leaving(3, 1, NodeState.Removing), { 1: LOST })).toBeUndefined();
  });

  it("says that no other node is left, or may take anything", () => {
    const all = leaving(3, 1);
    const everybody = all.nodes.map((row) => ({ ...row, state: NodeState.Draining }));
    expect(why({ ...all, nodes: everybody })).toMatch(/no node is left/);
    expect(why(leaving(4, 1), { 4: SILENT })).toMatch(
      /without a node that could take a replica \(node 4 does not answer\): add a node/,
    );
    const full = { ...WELL, writable: false };
    expect(why(leaving(4, 1), { 2: full, 3: full, 4: full })).toMatch(/node 4 has no room/);
    const small = { ...WELL, capacityBytes: 50 * MiB };
    expect(why(leaving(4, 1), { 2: small, 3: small, 4: small })).toMatch(/node 4 has no room/);
  });

  it("says who is waited for", () => {
    expect(why(leaving(3, 1), { 2: SILENT })).toMatch(/until enough of the other replicas answer/);
    const map = leaving(4, 1);
    const begun = withRows(map, plan(makeInput(map)));
    const silent = Object.fromEntries([2, 3, 4].map((id) => [id, SILENT]));
    expect(why(begun, silent)).toMatch(/waiting for node \d to answer, which gets a replica/);
  });

  it("does not wait for a replica that was to come to the node itself", () => {
    const map = makeMap(makeNodes(4), { vshards: 1 });
    const nodes = map.nodes.with(3, { ...map.nodes[3]!, state: NodeState.Removing });
    const row = map.placements[0]!;
    const replicas = row.replicas.filter(({ replica }) => nodeOfReplica(replica) !== 4).slice(0, 2);
    const learner = { replica: replicaIdOf(4 as NodeId, 1), role: "learner" as const };
    const placement = { ...row, replicas: [...replicas, learner], lastSequence: 1 };
    const input = makeInput({ ...map, nodes, placements: [placement] }, { nodes: { 4: LOST } });
    expect(departureObstacles(input).get(4 as NodeId) ?? "").not.toMatch(/waiting for node 4/);
  });

  it("names groups that nobody leads", () => {
    const input: PlannerInput = makeInput(leaving(3, 1));
    const groups = new Map([...input.groups].filter(([group]) => group !== (2 as GroupId)));
    const found = departureObstacles({ ...input, groups });
    expect([...found.values()]).toEqual([
      "1 group (2) is without a leader: see which of their nodes do not answer",
    ]);
    // One that has just begun to lead the meta group has heard of nobody yet.
    const unheard = { ...input, nodes: new Map(), groups: new Map() };
    expect(departureObstacles(unheard).size).toBe(0);
  });
});
